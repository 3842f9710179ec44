import fc from "fast-check";
import { expect, test } from "vitest";
import { rankedArea } from "../../agent/training/metrics/ranked-area.ts";

/** The definition, pair by pair. */
function areaByPairs(scores: readonly number[], labels: readonly number[]): number | undefined {
  const [ones, zeros] = [1, 0].map((wanted) => scores.filter((_, i) => labels[i] === wanted));
  const wins = ones!.flatMap((one) => zeros!.map((zero) => (one > zero ? 1 : one === zero ? 0.5 : 0)));
  return wins.length === 0 ? undefined : wins.reduce<number>((sum, win) => sum + win, 0) / wins.length;
}

test("is the share of pairs that are in the right order, whatever is equal and whatever is left out", () => {
  const example = fc.tuple(fc.integer({ min: -3, max: 3 }), fc.constantFrom(0, 1, 1, 0, -1));
  fc.assert(
    fc.property(fc.array(example, { maxLength: 30 }), (examples) => {
      const scores = examples.map(([score]) => score / 4);
      const labels = examples.map(([, label]) => label);
      const [found, expected] = [rankedArea(scores, labels), areaByPairs(scores, labels)];
      if (expected === undefined) expect(found).toBeUndefined();
      else expect(found).toBeCloseTo(expected, 12);
    }),
  );
});

test("is unknown where a score is no number: a model that is lost is better than no other", () => {
  expect(rankedArea([0.1, Number.NaN, 0.3], [0, 1, 1])).toBeUndefined();
  expect(rankedArea([0.1, Number.NaN, 0.3], [0, -1, 1])).toBe(1);
});
