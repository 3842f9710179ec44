import { randomUUID } from "node:crypto";
import { type Command, Option } from "commander";
import { RingfoldError } from "../../protocol/errors.ts";
import { type IndexRange, indexRange, modelReference } from "./arguments.ts";
import { type CommandContext, type CommandIo, type CommandResult, runCommand } from "./command.ts";
import type { InferenceAnswer } from "./inference/open-inference.ts";
import type { PredictionInput } from "./inference/prediction-input.ts";
import type { Prediction } from "./inference/predictions.ts";

interface PredictOptions {
  readonly input?: string;
  readonly mnistTest?: IndexRange;
  readonly table?: string;
  readonly gateway?: string;
}

type ModelReference = ReturnType<typeof modelReference>;

/** 100 MNIST images are 2 MB of JSON: far below the gateway's bound, and few enough round trips. */
const examplesPerRequest = 100;

export function register(program: Command, io: CommandIo): void {
  program
    .command("predict")
    .argument("<name[@n]>", "for example digits or digits@1", modelReference)
    .description("ask the served model, through any agent's gateway")
    .addOption(
      new Option("--input <file>", "JSON, nested arrays with the batch first; - is stdin").conflicts(
        "mnistTest",
      ),
    )
    .option("--mnist-test <range>", "images of the MNIST test set, for example 0..9", indexRange)
    .addOption(
      new Option("--table <file>", "CSV, JSONL or Parquet, prepared as the training data was").conflicts([
        "input",
        "mnistTest",
      ]),
    )
    .option("--gateway <url>", "ask this gateway and not one that the coordinator names")
    .action((reference: ModelReference, _options: unknown, command: Command) =>
      runCommand<PredictOptions>(command, io, (context, options) => predict(reference, context, options)),
    );
}

async function predict(
  reference: ModelReference,
  context: CommandContext,
  options: PredictOptions,
): Promise<CommandResult> {
  const input = await readInput(reference, context, options);
  const id = randomUUID();
  const { infer } = await import("./inference/open-inference.ts");
  const { Gateways } = await import("./inference/gateways.ts");
  const gateways = await Gateways.find(context, options.gateway);
  const { predictionText, readPredictions } = await import("./inference/predictions.ts");
  const { knownTarget } = await import("./inference/served-version.ts");
  // Who names a gateway may have no coordinator at hand.
  const target = options.gateway === undefined ? await knownTarget(reference, context) : undefined;
  const predictions: Prediction[] = [];
  let latest: InferenceAnswer | undefined;
  const firstIndex = options.mnistTest?.first ?? 0;
  for (const batch of batchesOf(input)) {
    latest = await gateways.ask((gatewayUrl) =>
      infer({ gatewayUrl, id, ...reference }, batch, context.signal),
    );
    const place = { batch, firstIndex: firstIndex + predictions.length };
    predictions.push(...readPredictions(latest, target ? { ...place, target } : place));
  }
  const correct = predictions.filter(({ label, class: predicted }) => label === predicted).length;
  const accuracy = input.labels ? { correct, accuracy: correct / predictions.length } : {};
  return {
    json: {
      ...{ model: latest?.model_name, version: latest?.model_version },
      ...(target ? { target } : {}),
      ...{ predictions, ...accuracy },
    },
    text: await predictionText(predictions, { target, correct: input.labels ? correct : undefined }),
  };
}

async function readInput(
  reference: ModelReference,
  context: CommandContext,
  { input, mnistTest, table }: PredictOptions,
): Promise<PredictionInput> {
  const { readMnistTestImages, readPredictionInput } = await import("./inference/prediction-input.ts");
  if (table !== undefined) {
    const { readTableInput } = await import("./inference/table-input.ts");
    return readTableInput(table, reference, context);
  }
  if (mnistTest) return readMnistTestImages(mnistTest);
  if (input !== undefined) return readPredictionInput(input, context.io.stdin);
  throw new RingfoldError(
    "USAGE",
    "nothing to predict: give --input FILE, --table FILE or --mnist-test 0..9",
  );
}

function* batchesOf(input: PredictionInput): Generator<PredictionInput> {
  const [count = 0, ...exampleShape] = input.shape;
  const size = input.data.length / count;
  for (let first = 0; first < count; first += examplesPerRequest) {
    const end = Math.min(count, first + examplesPerRequest);
    const data = input.data.subarray(first * size, end * size);
    const labels = input.labels?.subarray(first, end);
    yield { shape: [end - first, ...exampleShape], data, ...(labels ? { labels } : {}) };
  }
}
