import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Dataset, openDataset } from "../../../agent/data/dataset.ts";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { Engine } from "../../../agent/engine/port.ts";
import type { JobSpec, Wire } from "../../../protocol/job-spec.ts";
import type { Evaluation } from "../../../protocol/messages/job-report.ts";
import { memoryRings, openRank } from "../../fixtures/trainers.ts";

const never = new AbortController().signal;
const worldSize = 3;

/** Trains a small perceptron on real digits with three ranks; the same seed and data with every wire. */
async function trainWith(wire: Wire, engine: Engine, data: Dataset): Promise<Evaluation> {
  const spec: Partial<JobSpec> = {
    model: { architecture: "mlp", hidden: [32] },
    optimizer: { kind: "adam", learningRate: 0.003, beta1: 0.9, beta2: 0.999, epsilon: 1e-7 },
    ...{ batchSize: 60, epochs: 3, wire },
  };
  const ranks = await Promise.all(Array.from({ length: worldSize }, () => openRank({ engine, data, spec })));
  const rings = memoryRings(worldSize);
  await Promise.all(ranks.map(({ trainer }, rank) => trainer.run(rings[rank]!, never)));
  const evaluations = await Promise.all(
    ranks.map(({ trainer }, rank) => trainer.evaluate(rings[rank]!, never)),
  );
  const lastHashes = ranks.map(({ hashes, trainer }) => hashes.get(trainer.state.step));
  expect(new Set(lastHashes).size).toBe(1);
  for (const { model } of ranks) model.close();
  return evaluations[0]!;
}

describe("accuracy on digits", () => {
  let engine: Engine;
  let data: Dataset;
  let exact: Evaluation;
  beforeAll(async () => {
    engine = await openEngine({ prefer: "wasm" });
    data = await openDataset({ source: "mnist", trainExamples: 6_000, testExamples: 4_000 });
    exact = await trainWith("f32", engine, data);
  });
  afterAll(() => engine.close());

  test.each(["bf16", "int8"] as const)("%s reaches that of f32 within half a point", async (wire) => {
    const { accuracy } = await trainWith(wire, engine, data);
    expect(exact.accuracy).toBeGreaterThan(0.88);
    expect(accuracy).toBeGreaterThan(exact.accuracy! - 0.005);
  });
});
