import type { ScheduleSpec } from "../../protocol/job-spec.ts";

/**
 * Learning rate of step `step` (from 0). Each rank computes it by itself and must get the same bits, so the cosine is
 * rounded to a millionth: Math.cos may differ in its last bit between V8 releases.
 * Source: Loshchilov & Hutter, "SGDR", 2017, for the cosine.
 */
export function learningRate(
  schedule: ScheduleSpec,
  at: { readonly base: number; readonly step: number; readonly totalSteps: number },
): number {
  switch (schedule.kind) {
    case "constant":
      return at.base;
    case "step":
      return at.base * power(schedule.factor, Math.floor(at.step / schedule.everySteps));
    case "cosine": {
      if (at.step < schedule.warmupSteps) return (at.base * (at.step + 1)) / schedule.warmupSteps;
      const span = Math.max(1, at.totalSteps - schedule.warmupSteps);
      const wave = (1 + Math.cos((Math.PI * (at.step - schedule.warmupSteps)) / span)) / 2;
      const share = Math.round(wave * 1e6) / 1e6;
      return at.base * (schedule.finalFraction + (1 - schedule.finalFraction) * share);
    }
  }
}

/** By repeated multiplication, as Math.pow is not the same everywhere. */
function power(factor: number, exponent: number): number {
  let product = 1;
  for (let i = 0; i < exponent; i++) product *= factor;
  return product;
}
