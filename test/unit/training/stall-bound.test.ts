import { expect, test } from "vitest";
import { StallBound } from "../../../agent/training/stall-bound.ts";
import { limits } from "../../../protocol/limits.ts";

function boundAfter(...stepsMs: number[]): number {
  const bound = new StallBound();
  for (const stepMs of stepsMs) bound.observe(stepMs);
  return bound.boundMs;
}

test("before the first step any time may be right", () => {
  expect(boundAfter()).toBe(limits.firstStepTimeoutMs);
  expect(new StallBound().stepMs).toBeNull();
});

test("short steps leave room for a process that waits for a core", () => {
  expect(boundAfter(5, 6, 7)).toBe(limits.stallMsMin);
});

test("long steps are waited for in proportion", () => {
  expect(boundAfter(30_000, 30_000)).toBe(limits.stallSteps * 30_000);
});

test("one long step among many says nothing, and what is long ago does not count", () => {
  const steady = Array<number>(31).fill(1_000);
  expect(boundAfter(...steady, 60_000)).toBe(limits.stallSteps * 1_000);
  expect(boundAfter(...Array<number>(40).fill(60_000), ...steady, 1_000)).toBe(limits.stallSteps * 1_000);
});
