import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { extendPoints, replacePoints, toColumns } from "../../../dashboard/loss-series.ts";
import type { CurvePoint } from "../../../dashboard/views.ts";
import { limits } from "../../../protocol/limits.ts";

const point = (step: number, loss = 1): CurvePoint => ({ step, loss, accuracy: 0.5 });
const steps = (points: readonly { step: number }[]) => points.map(({ step }) => step);

describe("the points of a loss curve", () => {
  it("stay bounded, in step order and end with the newest, whatever arrives", () => {
    fc.assert(
      fc.property(
        fc.array(fc.nat(5_000), { minLength: 1, maxLength: 50 }),
        fc.nat(3_000),
        (arrivals, count) => {
          let points = Array.from({ length: count }, (_, step) => point(step));
          for (const step of arrivals) points = extendPoints(points, point(step));
          expect(points.length).toBeLessThanOrEqual(Math.max(limits.lossCurvePointsMax, count));
          expect(points.at(-1)?.step).toBe(arrivals.at(-1));
          expect(steps(points)).toEqual([...new Set(steps(points))].sort((one, other) => one - other));
        },
      ),
    );
  });

  it("forget steps that a job took before it went back to a checkpoint", () => {
    const points = extendPoints([point(100), point(200), point(300)], point(200, 7));
    expect(steps(points)).toEqual([100, 200]);
    expect(points.at(-1)?.loss).toBe(7);
  });

  it("thin out the older half and keep the newest steps whole", () => {
    let points: CurvePoint[] = [];
    for (let step = 0; step < 3 * limits.lossCurvePointsMax; step++)
      points = extendPoints(points, point(step));
    const newest = steps(points).slice(-100);
    expect(newest.at(-1)! - newest[0]!).toBe(99);
    expect(points[0]?.step).toBe(0);
  });

  it("take the coordinator's curve, and a live point only where it is newer", () => {
    expect(steps(replacePoints([point(5), point(9)], [point(1), point(8)]))).toEqual([1, 8, 9]);
    expect(steps(replacePoints([point(5)], [point(1), point(8)]))).toEqual([1, 8]);
    expect(steps(replacePoints([], []))).toEqual([]);
    expect(steps(replacePoints([point(5)], []))).toEqual([5]);
  });

  it("stand beside those of the held-out set, step by step", () => {
    const heldOut = [{ step: 4, loss: 3, accuracy: 0.25 }, point(5, 2)];
    expect(toColumns([point(1), point(5)], heldOut)).toEqual([
      [1, 4, 5],
      [1, null, 1],
      [0.5, null, 0.5],
      [null, 3, 2],
      [null, 0.25, 0.5],
    ]);
  });
});
