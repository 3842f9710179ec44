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

/** Column-wise, as uPlot takes it: steps, losses, accuracies. */
export const toColumns = (
  points: readonly CurvePoint[],
): [number[], (number | null)[], (number | null)[]] => [
  points.map(({ step }) => step),
  points.map(({ loss }) => loss),
  points.map(({ accuracy }) => accuracy),
];
