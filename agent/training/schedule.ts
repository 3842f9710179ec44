import type { ScheduleSpec } from "../../protocol/training-spec.ts";

/**
 * Learning rate of step `step` (from 0): over `warmupSteps` it rises in equal parts, then the schedule's own course begins.
 * Each rank computes it by itself and must get the same bits, so the cosine is rounded to a millionth: Math.cos may
 * differ in its last bit between V8 releases. Sources: Goyal et al., "Accurate, large minibatch SGD", 2017, for the
 * warm-up; Loshchilov & Hutter, "SGDR", 2017, for the cosine.
 */
export function learningRate(
  schedule: ScheduleSpec,
  at: { readonly base: number; readonly step: number; readonly totalSteps: number },
): number {
  const { warmupSteps = 0 } = schedule;
  if (at.step < warmupSteps) return (at.base * (at.step + 1)) / warmupSteps;
  const done = (at.step - warmupSteps) / Math.max(1, at.totalSteps - warmupSteps);
  switch (schedule.kind) {
    case "constant":
      return at.base;
    case "step": // counted from the beginning: a warm-up moves no cut
      return at.base * power(schedule.factor, Math.floor(at.step / schedule.everySteps));
    case "linear":
      return between(schedule.finalFraction, 1 - done) * at.base;
    case "cosine":
      return (
        at.base *
        between(schedule.finalFraction, Math.round(((1 + Math.cos(Math.PI * done)) / 2) * 1e6) / 1e6)
      );
  }
}

/** `finalFraction` at share 0, and 1 at share 1. */
const between = (finalFraction: number, share: number): number => finalFraction + (1 - finalFraction) * share;

/** By repeated multiplication, as Math.pow is not the same everywhere. */
function power(factor: number, exponent: number): number {
  let product = 1;
  for (let i = 0; i < exponent; i++) product *= factor;
  return product;
}
