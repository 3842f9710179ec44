import { openEngine } from "../../agent/engine/engine.ts";
import type { Batch, Engine } from "../../agent/engine/port.ts";
import type { ModelSpec } from "../../protocol/job-spec.ts";
import { parseBenchOptions, runBench } from "./bench-program.ts";

/**
 * Training speed of the compute engines: forward and backward of one batch, gradient read back, on synthetic images.
 *
 *     node scripts/bench/engines.ts           a table
 *     node scripts/bench/engines.ts --json    rows {engine, model, batch, samplesPerSecond}
 *
 * Each figure is the median of several rounds: one call that a neighbour disturbed does not move it.
 */

const inputShape = [28, 28, 1];
const classCount = 10;
const models: readonly { readonly model: string; readonly spec: ModelSpec }[] = [
  { model: "cnn", spec: { architecture: "cnn", filters: [32], kernelSize: 3, hidden: [] } },
  { model: "mlp", spec: { architecture: "mlp", hidden: [512, 512] } },
];
/** cpu needs seconds for a large batch, and gains nothing by it. */
const batches = { wasm: [16, 64], tensorflow: [16, 64], webgpu: [16, 64], cpu: [16] };
const rounds = 5;
const roundMs = 300;

interface EngineRow {
  readonly engine: Engine["name"];
  readonly model: string;
  readonly batch: number;
  readonly samplesPerSecond: number;
}

async function measure(engine: Engine, spec: ModelSpec, exampleCount: number): Promise<number> {
  const model = engine.openModel(spec, { inputShape, target: { kind: "class", classCount }, seed: 1 });
  const batch: Batch = {
    exampleCount,
    inputs: Float32Array.from({ length: exampleCount * 784 }, (_, i) => ((i * 37) % 101) / 101),
    targets: Float32Array.from({ length: exampleCount }, (_, i) => i % classCount),
  };
  const gradient = new Float32Array(model.description.parameterCount);
  const speeds: number[] = [];
  // The first round is for V8 to compile.
  for (let round = 0; round <= rounds; round++) {
    const startMs = performance.now();
    let examples = 0;
    do {
      await model.gradient(batch, gradient);
      examples += exampleCount;
    } while (performance.now() - startMs < roundMs);
    if (round > 0) speeds.push((1_000 * examples) / (performance.now() - startMs));
  }
  model.close();
  return speeds.toSorted((a, b) => a - b)[Math.floor(rounds / 2)] ?? 0;
}

async function measureAll(): Promise<EngineRow[]> {
  const rows: EngineRow[] = [];
  for (const prefer of ["tensorflow", "webgpu", "wasm", "cpu"] as const) {
    const engine = await openEngine({ prefer }).catch((error: Error) => {
      console.error(`${prefer}: left out, ${error.message}`);
    });
    if (!engine) continue;
    for (const { model, spec } of models) {
      for (const batch of batches[engine.name]) {
        rows.push({
          engine: engine.name,
          model,
          batch,
          samplesPerSecond: Math.round(await measure(engine, spec, batch)),
        });
      }
    }
    engine.close();
  }
  return rows;
}

async function main(): Promise<void> {
  const flags = parseBenchOptions("bench:engines", (command) =>
    command.description("training speed of the compute engines on synthetic images"),
  );
  if (!flags) return;
  const rows = await measureAll();
  if (flags.json) console.log(JSON.stringify(rows));
  else console.table(rows);
}

await runBench(main);
