import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Dataset, openDataset } from "../../../agent/data/dataset.ts";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { Engine } from "../../../agent/engine/port.ts";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import { memoryRings, openRank } from "../../fixtures/trainers.ts";

const never = new AbortController().signal;
const worldSize = 4;

interface Result {
  readonly accuracy: number;
  /** Of one rank. */
  readonly sentBytes: number;
}

/** A small perceptron on real digits: 376 steps, the short form of `npm run bench:slow-links`. */
async function trainWith(how: Partial<JobSpec>, engine: Engine, data: Dataset): Promise<Result> {
  const spec: Partial<JobSpec> = {
    model: { architecture: "mlp", hidden: [32] },
    optimizer: { kind: "adam", learningRate: 0.003, beta1: 0.9, beta2: 0.999, epsilon: 1e-7 },
    ...{ batchSize: 64, epochs: 4, ...how },
  };
  const ranks = await Promise.all(Array.from({ length: worldSize }, () => openRank({ engine, data, spec })));
  const rings = memoryRings(worldSize);
  await Promise.all(ranks.map(({ trainer }, rank) => trainer.run(rings[rank]!, never)));
  const sentBytes = rings[0]!.sentBytes;
  expect(ranks[0]!.reports.at(-1)!.sentBytes).toBe(sentBytes);
  const evaluations = await Promise.all(
    ranks.map(({ trainer }, rank) => trainer.evaluate(rings[rank]!, never)),
  );
  expect(new Set(ranks.map(({ hashes, trainer }) => hashes.get(trainer.state.step))).size).toBe(1);
  for (const { model } of ranks) model.close();
  return { accuracy: evaluations[0]!.accuracy!, sentBytes };
}

describe("bytes and accuracy on digits", () => {
  let engine: Engine;
  let data: Dataset;
  let everyStep: Result;
  beforeAll(async () => {
    engine = await openEngine({ prefer: "wasm" });
    data = await openDataset({ source: "mnist", trainExamples: 6_000, testExamples: 4_000 });
    everyStep = await trainWith({}, engine, data);
  });
  afterAll(() => engine.close());

  const averaging = { kind: "averaging", everySteps: 32 } as const;
  const diloco = { kind: "diloco", everySteps: 32, outerLearningRate: 0.7, outerMomentum: 0.9 } as const;
  // Twelve rounds are few, above all for what waits in the error feedback; docs/slow-links.md has the whole training.
  test.each([
    ["averaging, int8", { synchronization: averaging, wire: "int8" }, 0.02],
    ["DiLoCo, int8", { synchronization: diloco, wire: "int8" }, 0.02],
    ["DiLoCo, top 5%", { synchronization: diloco, topK: { fraction: 0.05 } }, 0.05],
  ] as const)("%s: a hundredth of the bytes, and about as accurate", async (_name, how, tolerance) => {
    const { accuracy, sentBytes } = await trainWith(how, engine, data);
    expect(everyStep.sentBytes / sentBytes).toBeGreaterThan(100);
    expect(accuracy).toBeGreaterThan(everyStep.accuracy - tolerance);
  });
});
