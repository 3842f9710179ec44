import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { Engine, TrainableModel } from "../../../agent/engine/port.ts";
import { type BucketRule, bucketsOf } from "../../../agent/training/synchronization/buckets.ts";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import { limits } from "../../../protocol/limits.ts";
import { memoryRings, openRank, type Rank, settleAll, tinyData } from "../../fixtures/trainers.ts";

const data = tinyData(96);
/** The perceptron of the fixtures, 103 parameters, goes round in 6 pieces. */
const inPieces: BucketRule = { overlapBytesMin: 0, bucketBytesMin: 64 };
const parameterCount = 103;

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ prefer: "wasm" });
});
afterAll(() => engine.close());

test("buckets are the whole vector once, from its end, at cache lines, and few", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 100_000 }), fc.nat(10_000), (elementCount, bucketBytesMin) => {
      const buckets = bucketsOf(elementCount, { overlapBytesMin: 0, bucketBytesMin });
      let next = elementCount;
      for (const { start, end } of buckets) {
        expect(end).toBe(next);
        expect(start).toBeLessThan(end);
        expect(start % 16).toBe(0);
        next = start;
      }
      expect(next).toBe(0);
      expect(buckets.length).toBeLessThanOrEqual(limits.bucketsMax);
    }),
  );
  expect(bucketsOf(limits.overlapBytesMin / 4 - 1)).toHaveLength(1);
  expect(bucketsOf(limits.overlapBytesMin / 4).length).toBeGreaterThan(1);
  expect(bucketsOf(parameterCount, inPieces)).toHaveLength(6);
});

interface Run {
  readonly worldSize: number;
  readonly spec?: Partial<JobSpec>;
  readonly bucketRule?: BucketRule;
  readonly wrap?: (model: TrainableModel, rank: number) => TrainableModel;
}

async function train({ worldSize, spec = {}, bucketRule, wrap = (model) => model }: Run) {
  const ranks: Rank[] = [];
  for (let rank = 0; rank < worldSize; rank++) {
    const rule = bucketRule ? { bucketRule } : {};
    const options = { engine, data, spec: { batchSize: 12, epochs: 2, ...spec }, ...rule };
    ranks.push(await openRank({ ...options, wrap: (model) => wrap(model, rank) }));
  }
  const rings = memoryRings(worldSize);
  const outcomes = await settleAll(ranks, rings);
  for (const { model } of ranks) model.close();
  return { ranks, rings, outcomes };
}

const hashesOf = ({ ranks }: { readonly ranks: readonly Rank[] }) =>
  ranks.map(({ hashes }) => Object.fromEntries(hashes));

test("two ranks that overlap end with the bits of two that do not: a sum of two has one order", async () => {
  const whole = await train({ worldSize: 2 });
  const overlapped = await train({ worldSize: 2, bucketRule: inPieces });
  expect(hashesOf(overlapped)).toEqual(hashesOf(whole));
});

test("three ranks that overlap stay near three that do not, and equal to each other", async () => {
  const whole = await train({ worldSize: 3 });
  const overlapped = await train({ worldSize: 3, bucketRule: inPieces });
  for (const hashes of hashesOf(overlapped)) expect(hashes).toEqual(hashesOf(overlapped)[0]);
  const [expected, found] = [whole, overlapped].map(({ ranks }) => ranks[0]!.trainer.state.parameters);
  for (const [i, value] of expected!.entries()) expect(found![i]).toBeCloseTo(value, 3);
});

test.each<Partial<JobSpec>>([
  { wire: "bf16" },
  { wire: "int8" },
  { microBatchSize: 2 },
  { topK: { fraction: 0.1 } },
  { synchronization: { kind: "averaging", everySteps: 4 } },
])("ranks are equal at each step with %o", async (spec) => {
  const { ranks, outcomes } = await train({ worldSize: 3, spec, bucketRule: inPieces });
  for (const outcome of outcomes) expect(outcome).toMatchObject({ status: "fulfilled", value: "done" });
  for (const hashes of hashesOf({ ranks })) expect(hashes).toEqual(hashesOf({ ranks })[0]);
});

test("a rank whose engine says nothing early, and one without examples, sum the same buckets", async () => {
  const silent = (model: TrainableModel, rank: number): TrainableModel =>
    rank === 1 ? { ...model, gradient: (batch, into) => model.gradient(batch, into) } : model;
  const some = await train({ worldSize: 2, bucketRule: inPieces, wrap: silent });
  expect(hashesOf(some)).toEqual(hashesOf(await train({ worldSize: 2 })));
  const crowd = await train({ worldSize: 4, spec: { batchSize: 3, epochs: 1 }, bucketRule: inPieces });
  for (const hashes of hashesOf(crowd)) expect(hashes).toEqual(hashesOf(crowd)[0]);
});

test("operations begin while the gradient is computed", async () => {
  const begun: number[] = [];
  const counting = (model: TrainableModel): TrainableModel => ({
    ...model,
    gradient: (batch, into, onFinal) => {
      let count = 0;
      const result = model.gradient(batch, into, (start) => {
        count++;
        onFinal?.(start);
      });
      begun.push(count); // the engine is done when it returns: nothing of it waits
      return result;
    },
  });
  await train({ worldSize: 2, bucketRule: inPieces, wrap: counting });
  expect(Math.min(...begun)).toBeGreaterThan(1);
});

describe("a number that is none, found when others have left", () => {
  /** In the first layer, whose gradient comes last. */
  const spoiled = (model: TrainableModel, rank: number): TrainableModel => {
    let step = 0;
    return {
      ...model,
      gradient: async (batch, into, onFinal) => {
        const isBad = rank === 1 && step++ === 5;
        const result = await model.gradient(batch, into, (start) => {
          if (isBad && start === 0) into[3] = Number.NaN;
          onFinal?.(start);
        });
        return result;
      },
    };
  };

  test("is named on every rank, and no state is touched", async () => {
    const run = { worldSize: 3, bucketRule: inPieces, wrap: spoiled };
    const { ranks, outcomes } = await train({ ...run, spec: { nonFinite: "stop" } });
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({
        status: "rejected",
        reason: {
          code: "NOT_FINITE",
          data: { rank: 1, step: 5 },
          message: expect.stringContaining("kernel"),
        },
      });
    }
    expect(ranks.map(({ trainer }) => trainer.state.step)).toEqual([5, 5, 5]);
    for (const hashes of hashesOf({ ranks })) expect(hashes).toEqual(hashesOf({ ranks })[0]);
  });

  test.each(["f32", "bf16", "int8"] as const)("leaves the step out on every rank: %s", async (wire) => {
    const run = { worldSize: 3, bucketRule: inPieces, wrap: spoiled };
    const { ranks } = await train({ ...run, spec: { nonFinite: "skip", wire } });
    expect(ranks.map(({ trainer }) => trainer.skippedCount)).toEqual([1, 1, 1]);
    expect(ranks[0]!.hashes.get(6)).toBe(ranks[0]!.hashes.get(5));
    for (const hashes of hashesOf({ ranks })) expect(hashes).toEqual(hashesOf({ ranks })[0]);
    expect(ranks[0]!.trainer.state.parameters.every(Number.isFinite)).toBe(true);
  });
});
