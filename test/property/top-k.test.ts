import fc from "fast-check";
import { expect, test } from "vitest";
import { addSparse, encodeSparse } from "../../agent/training/synchronization/sparse.ts";
import { entryCount, takeLargest } from "../../agent/training/synchronization/top-k.ts";

/** Few different values, so that there are ties, and some that are no numbers. */
const element = fc.oneof(
  fc.float({ noNaN: true }),
  fc.constantFrom(0, -0, 1, -1, 1.5, -1.5, Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
);
const vectors = fc
  .array(element, { minLength: 1, maxLength: 300 })
  .chain((values) =>
    fc.record({ values: fc.constant(values), count: fc.integer({ min: 1, max: values.length }) }),
  );

/** By sorting: larger magnitudes first, NaN before all, then lower places. */
function largestBySorting(values: Float32Array, count: number): number[] {
  const rank = (value: number) => (Number.isNaN(value) ? Number.POSITIVE_INFINITY : Math.abs(value));
  const isNan = (value: number) => (Number.isNaN(value) ? 1 : 0);
  return [...values.keys()]
    .sort((a, b) => {
      const [x, y] = [values[a]!, values[b]!];
      return isNan(y) - isNan(x) || (rank(y) > rank(x) ? 1 : rank(y) < rank(x) ? -1 : a - b);
    })
    .slice(0, count)
    .sort((a, b) => a - b);
}

test("the largest are taken, the lowest places among equals, and the others stay", () => {
  fc.assert(
    fc.property(vectors, ({ values, count }) => {
      const vector = Float32Array.from(values);
      const rest = vector.slice();
      const taken = takeLargest(rest, count);
      expect([...taken.places]).toEqual(largestBySorting(vector, count));
      for (const [i, place] of taken.places.entries()) {
        expect(taken.values[i]).toBe(vector[place]);
        expect(rest[place]).toBe(0);
        rest[place] = vector[place]!;
      }
      expect(rest).toEqual(vector);
    }),
  );
});

test("a fraction is at least one element and at most all", () => {
  expect(entryCount(0.01, 5)).toBe(1);
  expect(entryCount(0.01, 54_410)).toBe(545);
  expect(entryCount(0.5, 1)).toBe(1);
});

test("what was sent is added at its places, whatever else is there", () => {
  fc.assert(
    fc.property(vectors, ({ values, count }) => {
      const largest = takeLargest(Float32Array.from(values), count);
      const bytes = encodeSparse(Float32Array.of(1, 2), largest);
      const sums = new Float32Array(values.length).fill(1);
      const totals = Float32Array.of(10, 10);
      addSparse(bytes, { rank: 0, count, values: sums, totals });
      expect(totals).toEqual(Float32Array.of(11, 12));
      const expected = new Float32Array(values.length).fill(1);
      for (const [i, place] of largest.places.entries()) expected[place]! += largest.values[i]!;
      expect(sums).toEqual(expected);
    }),
  );
});

const refused = (bytes: Uint8Array) => () =>
  addSparse(bytes, {
    ...{ rank: 2, count: 2 },
    values: new Float32Array(5),
    totals: new Float32Array(1),
  });
const sparse = (places: number[]) =>
  encodeSparse(Float32Array.of(0), {
    places: Uint32Array.from(places),
    values: new Float32Array(places.length),
  });

test.each([
  ["a place beyond the end", [0, 5]],
  ["a place twice", [3, 3]],
  ["places that descend", [3, 1]],
  ["too few entries", [3]],
  ["too many", [1, 2, 3]],
])("%s is refused, with the rank that sent it", (_what, places) => {
  expect(refused(sparse(places))).toThrow(
    expect.objectContaining({ code: "MESSAGE_INVALID", data: expect.objectContaining({ rank: 2 }) }),
  );
});
