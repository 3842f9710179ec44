import { expect, test } from "vitest";
import { Bound } from "../../../agent/training/bound.ts";
import type { SynchronizationSpec } from "../../../protocol/job-spec.ts";

const of = { stepsPerEpoch: 20, totalSteps: 80 };
const bound = (epochs: number | undefined, synchronization: SynchronizationSpec = { kind: "every-step" }) =>
  new Bound(epochs, of, { synchronization });
const steps = Array.from({ length: 80 }, (_, step) => step);

test.each([
  [1, 20],
  [0.26, 5],
  [0.001, 1],
])("%f epochs of 20 steps: the vote is cast one step before step %i", (epochs, step) => {
  const at = bound(epochs);
  expect(steps.find((each) => at.isReached(each))).toBe(step);
  expect(steps.find((each) => at.isNext(each))).toBe(step - 1);
});

test("with local steps: at the first synchronization point that is as far", () => {
  const at = bound(1, { kind: "averaging", everySteps: 8 });
  expect([0, 8, 16, 24].map((step) => at.isNext(step))).toEqual([false, false, true, true]);
  expect([16, 24].map((step) => at.isReached(step))).toEqual([false, true]);
});

test("no bound, or one as far as the last step, is no pause", () => {
  for (const epochs of [undefined, 4, 9]) {
    const at = bound(epochs);
    expect(steps.some((step) => at.isReached(step) || at.isNext(step))).toBe(false);
  }
});
