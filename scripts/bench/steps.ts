import assert from "node:assert";
import { setImmediate as nextTurn } from "node:timers/promises";
import { openDataset } from "../../agent/data/dataset.ts";
import { openEngine } from "../../agent/engine/engine.ts";
import type { Engine } from "../../agent/engine/port.ts";
import { Ring } from "../../agent/ring/ring.ts";
import { Trainer } from "../../agent/training/trainer.ts";
import { jobSpecSchema } from "../../protocol/job-spec.ts";
import { systemClock } from "../../protocol/ports.ts";
import { listOf, oneOf, wholeNumber } from "./bench-flags.ts";
import { parseBenchOptions, runBench } from "./bench-program.ts";

/**
 * A step of training as an agent takes it, in a ring of one: the engine's gradient and what lies around it (examples, checks,
 * looks at the numbers, the optimizer, deadlines). Told is the median, and the hash of the parameters at the end: of two releases
 * that are measured in turn it must be the same.
 */
const models = {
  cnn: { architecture: "cnn" },
  mlp: { architecture: "mlp", hidden: [512, 512] },
} as const;

interface Options {
  readonly models: string;
  readonly batches: string;
  readonly steps: string;
  readonly engine: string;
}

await runBench(async () => {
  const options = parseBenchOptions<Options>("bench:steps", (command) =>
    command
      .option("--models <list>", "of cnn and mlp", "cnn,mlp")
      .option("--batches <list>", "examples in a step", "16,64")
      .option("--steps <n>", "of which the median is told", "600")
      .option("--engine <name>", "one by name, or auto", "auto"),
  );
  if (!options) return;
  const steps = wholeNumber("--steps", options.steps, 1, 100_000);
  const prefer = oneOf("--engine", options.engine, ["auto", "tensorflow", "webgpu", "wasm", "cpu"]);
  const engine = await openEngine({ prefer });
  try {
    for (const name of listOf(options.models)) {
      const model = oneOf("--models", name, ["cnn", "mlp"]);
      for (const word of listOf(options.batches)) {
        const row = await measure(engine, { model, batch: wholeNumber("--batches", word, 1, 60_000), steps });
        process.stdout.write(options.json ? `${JSON.stringify(row)}\n` : lineOf(row));
      }
    }
  } finally {
    engine.close();
  }
});

interface Row {
  readonly model: keyof typeof models;
  readonly batch: number;
  readonly stepMs: number;
  readonly hash: string;
}

async function measure(
  engine: Engine,
  {
    model: name,
    batch,
    steps,
  }: { readonly model: Row["model"]; readonly batch: number; readonly steps: number },
): Promise<Row> {
  const spec = jobSpecSchema.parse({
    ...{ name: "steps", model: models[name], batchSize: batch, optimizer: { kind: "adam" } },
    data: { source: "mnist", testExamples: 1 },
    epochs: Math.ceil((steps * batch) / 60_000),
  });
  assert(spec.data.source === "mnist" && spec.model.architecture !== "script");
  const data = await openDataset(spec.data);
  const model = engine.openModel(spec.model, { ...data.shape, seed: spec.seed });
  const durationsMs: number[] = [];
  const trainer = await Trainer.open({
    ...{ spec, data, model, clock: systemClock, nowMs: () => performance.now(), nextTurn: () => nextTurn() },
    onStep: async ({ durationMs, step }) => {
      durationsMs.push(durationMs);
      if (step === steps - 1) trainer.requestPause();
    },
  });
  await trainer.run(new Ring({ rank: 0, worldSize: 1 }), new AbortController().signal);
  const { hash } = trainer.point();
  model.close();
  const sorted = durationsMs.toSorted((a, b) => a - b);
  return { model: name, batch, stepMs: sorted[sorted.length >> 1]!, hash };
}

function lineOf({ model, batch, stepMs, hash }: Row): string {
  return `${model}, batch ${batch}: ${stepMs.toFixed(2)} ms a step, parameters ${hash.slice(0, 12)}\n`;
}
