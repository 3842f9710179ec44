import { type Command, Option } from "commander";
import { RingfoldError } from "../../protocol/errors.ts";
import { type IndexRange, indexRange, modelReference } from "./arguments.ts";
import { type CommandContext, type CommandIo, type CommandResult, runCommand } from "./command.ts";
import type { InferenceAnswer } from "./inference/open-inference.ts";
import type { PredictionInput } from "./inference/prediction-input.ts";

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
  const { infer } = await import("./inference/open-inference.ts");
  const { Gateways } = await import("./inference/gateways.ts");
  const gateways = await Gateways.find(context, options.gateway);
  const predictions: Prediction[] = [];
  let latest: InferenceAnswer | undefined;
  const firstIndex = options.mnistTest?.first ?? 0;
  for (const batch of batchesOf(input)) {
    latest = await gateways.ask((gatewayUrl) => infer({ gatewayUrl, ...reference }, batch, context.signal));
    predictions.push(...readPredictions(latest, batch, firstIndex + predictions.length));
  }
  const correct = predictions.filter(({ label, class: predicted }) => label === predicted).length;
  const accuracy = input.labels ? { correct, accuracy: correct / predictions.length } : {};
  return {
    json: { model: latest?.model_name, version: latest?.model_version, predictions, ...accuracy },
    text: await predictionText(predictions, input.labels ? correct : undefined),
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

interface Prediction {
  readonly index: number;
  /** Index of the largest score. */
  readonly class: number;
  readonly scores: readonly number[];
  readonly label?: number;
}

/** The first output holds one row of scores an example. @throws RingfoldError MESSAGE_INVALID */
function readPredictions(answer: InferenceAnswer, batch: PredictionInput, firstIndex: number): Prediction[] {
  const output = answer.outputs[0];
  const count = batch.shape[0] ?? 0;
  if (!output || output.shape[0] !== count || output.data.length < count) {
    throw new RingfoldError(
      "MESSAGE_INVALID",
      `${count} examples were answered with shape [${output?.shape.join(", ") ?? ""}]`,
    );
  }
  const width = output.data.length / count;
  return Array.from({ length: count }, (_, row) => {
    const scores = output.data.slice(row * width, (row + 1) * width);
    const label = batch.labels?.[row];
    return {
      index: firstIndex + row,
      class: scores.indexOf(Math.max(...scores)),
      ...(label === undefined ? {} : { label }),
      scores,
    };
  });
}

async function predictionText(
  predictions: readonly Prediction[],
  correct: number | undefined,
): Promise<string> {
  const { formatTable } = await import("./present/table.ts");
  const labelled = correct !== undefined;
  const table = formatTable(
    labelled ? ["index", "class", "score", "label", ""] : ["index", "class", "score"],
    predictions.map(({ index, class: predicted, scores, label }) => {
      const cells = [String(index), String(predicted), (scores[predicted] ?? 0).toFixed(4)];
      return labelled ? [...cells, String(label), label === predicted ? "" : "wrong"] : cells;
    }),
  );
  return labelled ? `${table}\n${correct} of ${predictions.length} right` : table;
}
