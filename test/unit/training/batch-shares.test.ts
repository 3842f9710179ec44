import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { Engine, TrainableModel } from "../../../agent/engine/port.ts";
import { newWeights } from "../../../agent/training/batch-shares.ts";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import { openRank, type Rank, runAll, tinyData } from "../../fixtures/trainers.ts";

/** 5 steps an epoch. */
const data = tinyData(200);
const base = { batchSize: 40, epochs: 4, batchShares: "measured" } as const;

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ prefer: "cpu" });
});
afterAll(() => engine.close());

interface TimedRank extends Rank {
  /** Examples of each slice that it computed. */
  readonly slices: number[];
}

/** A rank on which an example takes so many milliseconds of its own clock. */
async function openTimedRank(
  msOf: (slice: number) => number,
  spec: Partial<JobSpec> = {},
): Promise<TimedRank> {
  const slices: number[] = [];
  let nowMs = 0;
  const timed = (model: TrainableModel): TrainableModel => ({
    ...model,
    gradient: (batch, gradient) => {
      nowMs += batch.exampleCount * msOf(slices.length);
      slices.push(batch.exampleCount);
      return model.gradient(batch, gradient);
    },
  });
  const rank = await openRank({ engine, data, spec: { ...base, ...spec }, wrap: timed, nowMs: () => nowMs });
  onTestFinished(() => rank.model.close());
  return Object.assign(rank, { slices });
}

const openTimedRanks = (exampleMs: readonly number[], spec: Partial<JobSpec> = {}) =>
  Promise.all(exampleMs.map((ms) => openTimedRank(() => ms, spec)));

function expectEqualRanks(ranks: readonly Rank[]): void {
  for (const { hashes } of ranks) expect(hashes).toEqual(ranks[0]!.hashes);
}

describe("measured shares", () => {
  test("a rank four times slower takes a quarter of what the others take", async () => {
    const ranks = await openTimedRanks([1, 4, 1]);
    await runAll(ranks);
    for (const { slices } of ranks)
      expect(slices.slice(0, 2).every((size) => [13, 14].includes(size))).toBe(true);
    expect(ranks.map(({ slices }) => slices.at(-1))).toEqual([17, 5, 18]);
    for (let step = 0; step < 20; step++)
      expect(ranks.reduce((sum, { slices }) => sum + slices[step]!, 0)).toBe(40);
    expectEqualRanks(ranks);
    expect(ranks[0]!.reports.at(-1)!.batchShares).toEqual([444, 111, 444]);
  });

  test("equal ranks keep even parts, and so the bits of a job that does not measure", async () => {
    const ranks = await openTimedRanks([2, 2.1]);
    const even = await openTimedRanks([2, 2.1], { batchShares: "even" });
    await runAll(ranks);
    await runAll(even);
    expect(ranks[0]!.reports.at(-1)!.batchShares).toBeUndefined();
    expect(ranks[0]!.hashes).toEqual(even[0]!.hashes);
  });

  test("follow the curve of one rank", async () => {
    const [alone] = await openTimedRanks([1]);
    const ranks = await openTimedRanks([1, 7]);
    await runAll([alone!]);
    await runAll(ranks);
    ranks[0]!.reports.forEach(({ loss, examples }, i) => {
      expect(Math.abs(loss - alone!.reports[i]!.loss)).toBeLessThan(1e-4);
      expect(examples).toBe(40);
    });
  });

  test("what was measured outlives the ring: the next one begins with it", async () => {
    const ranks = await openTimedRanks([1, 4]);
    ranks[0]!.onStep = (step) => {
      if (step === 10) ranks[0]!.trainer.requestPause();
    };
    await runAll(ranks);
    const before = ranks.map(({ slices }) => slices.length);
    await runAll(ranks);
    expect(ranks.map(({ slices }, i) => slices[before[i]!])).toEqual([32, 8]);
    expectEqualRanks(ranks);
  });

  test("a rank that becomes fast again is found out", async () => {
    const changing = await openTimedRank((slice) => (slice < 10 ? 4 : 1), { epochs: 30 });
    const ranks = [...(await openTimedRanks([1], { epochs: 30 })), changing];
    await runAll(ranks);
    expect(changing.slices[9]).toBe(8);
    expect(changing.slices.at(-1)).toBeGreaterThanOrEqual(18);
    expectEqualRanks(ranks);
  });
});

describe("newWeights", () => {
  const speedArbitrary = fc.float({ min: Math.fround(1e-3), max: 1e3, noNaN: true });
  const stepTime = (speeds: Float32Array, weights: readonly number[]) => {
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return Math.max(...weights.map((weight, i) => weight / total / speeds[i]!));
  };

  test("never makes a step longer, and gives every rank an example", () => {
    const speedsArbitrary = fc.array(speedArbitrary, { minLength: 1, maxLength: 16 });
    fc.assert(
      fc.property(speedsArbitrary, fc.integer({ min: 16, max: 4_096 }), (list, batchSize) => {
        const speeds = Float32Array.from(list);
        const even = list.map(() => 1);
        const weights = newWeights(speeds, undefined, batchSize) ?? even;
        expect(stepTime(speeds, weights)).toBeLessThanOrEqual(stepTime(speeds, even) + 1e-9);
        expect(weights.every((weight) => Number.isInteger(weight) && weight >= 1)).toBe(true);
        // the same question again changes nothing: shares do not wander
        expect(newWeights(speeds, weights, batchSize) ?? even).toEqual(weights);
      }),
    );
  });

  test("one unknown speed means even parts", () => {
    expect(newWeights(Float32Array.of(1, -1, 4), [1, 1, 2], 64)).toBeUndefined();
  });
});
