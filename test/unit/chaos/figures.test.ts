import fc from "fast-check";
import { expect, test } from "vitest";
import { distributionOf } from "../../../scripts/chaos/distribution.ts";
import { FaultDice } from "../../../scripts/chaos/fault-dice.ts";
import { lostSteps } from "../../../scripts/chaos/lost-steps.ts";
import { growthOf } from "../../../scripts/chaos/resource-growth.ts";
import { liveSpans, throughputOf } from "../../../scripts/chaos/throughput.ts";

const generation = (
  number: number,
  { ranks, startStep = 0 }: { readonly ranks: string; readonly startStep?: number },
) => ({ generation: number, startedAtMs: 1_000 * number, startStep, ranks: [...ranks] });

test("a distribution holds values that were measured", () => {
  expect(distributionOf([])).toBeNull();
  expect(distributionOf([7])).toEqual({ count: 1, p50: 7, p99: 7, max: 7 });
  const values = Array.from({ length: 100 }, (_, i) => 100 - i);
  expect(distributionOf(values)).toEqual({ count: 100, p50: 50, p99: 99, max: 100 });
});

test("one seed gives one sequence of faults, whoever is there to be struck", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 2 ** 31 - 1 }), (seed) => {
      const [one, other] = [
        new FaultDice({ seed, signal: "mixed" }),
        new FaultDice({ seed, signal: "mixed" }),
      ];
      for (let i = 0; i < 20; i++) {
        const { victim, fault } = one.next(["a", "b", "c"]);
        expect(["a", "b", "c"]).toContain(victim);
        expect(other.next(["a", "b"]).fault).toEqual(fault);
      }
    }),
  );
});

test("a generation that begins behind a survivor has lost its steps", () => {
  const generations = [generation(1, { ranks: "abc" }), generation(2, { ranks: "bc", startStep: 100 })];
  const fault = { peerId: "a", atMs: 1_500 };
  const lost = (peerId: string, step: number, faults = [fault]) =>
    lostSteps(generations, [{ generation: 1, step, peerId }], faults);
  expect(lost("b", 100)).toBe(0);
  expect(lost("b", 102)).toBe(2);
  expect(lost("a", 102)).toBe(0); // what only the victim had went with it
  expect(lost("b", 102, [fault, { peerId: "b", atMs: 1_600 }])).toBe(0);
  expect(lost("b", 102, [fault, { peerId: "b", atMs: 2_600 }])).toBe(2);
});

test("a rank counts as live until it is struck, and survivors while the ring re-forms", () => {
  const generations = [generation(1, { ranks: "abc" }), generation(2, { ranks: "bc" })];
  expect(liveSpans(generations, [{ peerId: "a", atMs: 1_400 }])).toEqual([
    { atMs: 1_000, ranks: 3 },
    { atMs: 1_400, ranks: 2 },
    { atMs: 2_000, ranks: 2 },
  ]);
});

test("throughput is held against what the live ranks would have done", () => {
  const span = (fromMs: number, toMs: number, steps: number) => ({
    from: { atMs: fromMs, step: 0 },
    to: { atMs: toMs, step: steps },
  });
  const halfDead = {
    // Eight steps a second before, twelve after: the machine is shared.
    compared: [{ struck: span(0, 10_000, 75), calm: [span(-2_000, 0, 16), span(10_000, 11_000, 12)] }],
    batchSize: 10,
    // Four ranks for half of the time, two for the other half.
    spans: [
      { atMs: -2_000, ranks: 4 },
      { atMs: 5_000, ranks: 2 },
    ],
    worldSize: 4,
  };
  expect(throughputOf({ ...halfDead, cores: 8 })).toMatchObject({
    baselineExamplesPerSecond: 100,
    examplesPerSecond: 75,
    liveRanks: 3,
    rawShare: 0.75,
    perRankShare: 1,
    share: 1,
  });
  // Two cores were as busy with two ranks as with four: nothing excuses the missing quarter.
  expect(throughputOf({ ...halfDead, cores: 2 })).toMatchObject({ perRankShare: 1, share: 0.75 });
  // A second stretch on a machine at half the speed counts against that speed.
  const slow = { struck: span(20_000, 30_000, 50), calm: [span(30_000, 40_000, 50)] };
  const twice = { ...halfDead, compared: [...halfDead.compared, slow], spans: [{ atMs: 0, ranks: 4 }] };
  expect(throughputOf({ ...twice, cores: 2 }).share).toBeCloseTo(125 / 150);
});

test("growth is found below what a step holds and beside garbage, and not in a warm-up", () => {
  const life = (
    name: string,
    liveMB: (second: number) => number,
    descriptors: (second: number) => number,
  ) => ({
    ...{ name, pid: 1 },
    samples: Array.from({ length: 150 }, (_, i) => ({
      atMs: 2_000 * i,
      descriptors: descriptors(2 * i),
      // Every fifth look follows a collection.
      collected: i % 5 === 4 ? { liveBytes: 2 ** 20 * liveMB(2 * i), residentBytes: 2 ** 27 } : null,
    })),
  });
  const sawtooth = (second: number) => 150 + (second % 20) / 10;
  const warmUp = (second: number) => Math.min(100, 10 + 2 * second);
  const [steady] = growthOf([
    life(
      "steady",
      (s) => sawtooth(s) + warmUp(s),
      (s) => 30 + (s % 6),
    ),
  ]);
  expect(steady!.descriptors).toBeLessThanOrEqual(0);
  expect(steady).toMatchObject({ liveMB: 0, residentMB: 0 });
  const [leaky] = growthOf([
    life(
      "leaky",
      (s) => sawtooth(s) + s / 60,
      (s) => 30 + s / 10,
    ),
  ]);
  expect(leaky!.descriptors).toBeGreaterThan(8);
  expect(leaky!.liveMB).toBeGreaterThan(2);
  expect(leaky!.liveMBPerMinute).toBeCloseTo(1, 1);
  const short = { ...life("short", sawtooth, () => 30) };
  expect(growthOf([{ ...short, samples: short.samples.slice(0, 5) }])).toEqual([]);
});
