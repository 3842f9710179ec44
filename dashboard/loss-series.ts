import { limits } from "../protocol/limits.ts";
import type { CurvePoint } from "./views.ts";

/**
 * Adds the newest point to points in step order. Points at its step and beyond are of a life before the job went back
 * to a checkpoint: they go. The result has at most `limits.lossCurvePointsMax` points: beyond that every second one
 * of the older half goes, so that the newest steps stay whole.
 */
export function extendPoints(points: readonly CurvePoint[], newest: CurvePoint): CurvePoint[] {
  const first = points.findLastIndex(({ step }) => step < newest.step) + 1;
  const extended = [...points.slice(0, first), newest];
  if (extended.length <= limits.lossCurvePointsMax) return extended;
  const half = extended.length / 2;
  return extended.filter((_, index) => index >= half || index % 2 === 0);
}

/** The curve as the coordinator has it; the newest live point is kept where the fetched curve ends before it. */
export function replacePoints(
  live: readonly CurvePoint[],
  fetched: readonly CurvePoint[],
): readonly CurvePoint[] {
  const newest = live.at(-1);
  return newest && newest.step > (fetched.at(-1)?.step ?? -1) ? extendPoints(fetched, newest) : fetched;
}

/** Column-wise, as uPlot takes it: steps, losses, accuracies, and those of the held-out set where it was evaluated. */
export function toColumns(
  points: readonly CurvePoint[],
  heldOut: readonly CurvePoint[] = [],
): [number[], ...(number | null)[][]] {
  const training = new Map(points.map((point) => [point.step, point]));
  const evaluated = new Map(heldOut.map((point) => [point.step, point]));
  const steps = [...new Set([...training.keys(), ...evaluated.keys()])].sort((a, b) => a - b);
  const column = (of: ReadonlyMap<number, CurvePoint>, key: "loss" | "accuracy") =>
    steps.map((step) => of.get(step)?.[key] ?? null);
  return [
    steps,
    column(training, "loss"),
    column(training, "accuracy"),
    column(evaluated, "loss"),
    column(evaluated, "accuracy"),
  ];
}
