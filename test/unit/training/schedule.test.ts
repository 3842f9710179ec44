import fc from "fast-check";
import { expect, test } from "vitest";
import { learningRate } from "../../../agent/training/schedule.ts";
import type { ScheduleSpec } from "../../../protocol/training-spec.ts";

const at = (step: number) => ({ base: 0.1, step, totalSteps: 100 });
const cosine = (warmupSteps: number, finalFraction = 0): ScheduleSpec => ({
  kind: "cosine",
  warmupSteps,
  finalFraction,
});
const linear = (warmupSteps: number, finalFraction = 0): ScheduleSpec => ({
  kind: "linear",
  warmupSteps,
  finalFraction,
});

test.each([0, 50, 99])("constant at step %i", (step) => {
  expect(learningRate({ kind: "constant" }, at(step))).toBe(0.1);
});

test.each([
  [0, 0.1],
  [29, 0.1],
  [30, 0.05],
  [59, 0.05],
  [60, 0.025],
])("halved every 30 steps: step %i is %f", (step, expected) => {
  expect(learningRate({ kind: "step", everySteps: 30, factor: 0.5 }, at(step))).toBe(expected);
});

test.each([
  [cosine(0), 0, 0.1],
  [cosine(0), 50, 0.05],
  [cosine(0), 99, 0.1 * (1 + Math.cos(0.99 * Math.PI)) * 0.5],
  [cosine(10), 0, 0.01],
  [cosine(10), 9, 0.1],
  [cosine(10), 10, 0.1],
  [cosine(10), 55, 0.05],
  [cosine(0, 0.2), 50, 0.06],
  [linear(0), 0, 0.1],
  [linear(0), 75, 0.025],
  [linear(20), 19, 0.1],
  [linear(20), 60, 0.05],
  [linear(0, 0.2), 50, 0.06],
  [{ kind: "constant", warmupSteps: 4 }, 1, 0.05],
  [{ kind: "constant", warmupSteps: 4 }, 4, 0.1],
  [{ kind: "step", everySteps: 30, factor: 0.5, warmupSteps: 10 }, 4, 0.05],
  [{ kind: "step", everySteps: 30, factor: 0.5, warmupSteps: 10 }, 30, 0.05],
] as [ScheduleSpec, number, number][])("%j at step %i is %f", (schedule, step, expected) => {
  expect(learningRate(schedule, at(step))).toBeCloseTo(expected, 6);
});

test.each([cosine, linear])("after warm-up %o never rises, and stays between its ends", (schedule) => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 500 }),
      fc.nat(100),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (totalSteps, warmupSteps, finalFraction) => {
        let before = 0.1;
        for (let step = warmupSteps; step < totalSteps; step++) {
          const rate = learningRate(schedule(warmupSteps, finalFraction), { base: 0.1, step, totalSteps });
          expect(rate).toBeLessThanOrEqual(before);
          expect(rate).toBeGreaterThanOrEqual(0.1 * finalFraction - 1e-12);
          before = rate;
        }
      },
    ),
    { numRuns: 50 },
  );
});

test("a warm-up longer than the job only rises", () => {
  const rates = Array.from({ length: 100 }, (_, step) => learningRate(cosine(200), at(step)));
  expect(rates.every((rate, i) => i === 0 || rate > rates[i - 1]!)).toBe(true);
});
