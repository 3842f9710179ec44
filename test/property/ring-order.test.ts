import fc from "fast-check";
import { expect, test } from "vitest";
import {
  exactOrder,
  heuristicOrder,
  type LinkTable,
  orderRing,
  predictedMs,
} from "../../coordinator/decide/ring-order.ts";

const bytes = 4_000_000;
const names = (count: number): string[] => Array.from({ length: count }, (_, i) => `peer-${i}`);
const index = (name: string): number => Number(name.slice(5));

/** Links between `count` peers with costs of their own in each direction. */
const network = (min: number, max: number) =>
  fc.integer({ min, max }).chain((count) =>
    fc
      .array(
        fc.record({
          latencyMs: fc.integer({ min: 0, max: 50 }),
          megabytes: fc.integer({ min: 1, max: 1_000 }),
        }),
        {
          minLength: count * count,
          maxLength: count * count,
        },
      )
      .map((costs) => {
        const links: LinkTable = (from, to) => {
          const { latencyMs, megabytes } = costs[index(from) * count + index(to)]!;
          return { latencyMs, bytesPerSecond: 1e6 * megabytes };
        };
        return { members: names(count), links };
      }),
  );

function permutations(rest: readonly string[]): string[][] {
  if (rest.length === 0) return [[]];
  return rest.flatMap((chosen, i) => permutations(rest.toSpliced(i, 1)).map((tail) => [chosen, ...tail]));
}

test("an order holds every member once", () => {
  fc.assert(
    fc.property(network(1, 12), ({ members, links }) => {
      expect([...orderRing(members, links, bytes)].toSorted((a, b) => a.localeCompare(b))).toEqual(
        [...members].toSorted((a, b) => a.localeCompare(b)),
      );
    }),
    { numRuns: 40 },
  );
});

test("up to 8 members the order is the best of all", () => {
  fc.assert(
    fc.property(network(2, 6), ({ members, links }) => {
      const [first, ...rest] = members;
      const best = Math.min(
        ...permutations(rest).map((tail) => predictedMs([first!, ...tail], links, bytes)),
      );
      expect(predictedMs(exactOrder(members, links, bytes), links, bytes)).toBe(best);
    }),
    { numRuns: 60 },
  );
});

test("the heuristic is never worse than the order it starts from, and seldom far from the best", () => {
  const gaps: number[] = [];
  fc.assert(
    fc.property(network(4, 8), ({ members, links }) => {
      const found = predictedMs(heuristicOrder(members, links, bytes), links, bytes);
      expect(found).toBeLessThanOrEqual(predictedMs(members, links, bytes));
      gaps.push(found / predictedMs(exactOrder(members, links, bytes), links, bytes));
    }),
    { numRuns: 100, seed: 7 },
  );
  const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length;
  expect(mean).toBeLessThan(1.05);
  expect(gaps.filter((gap) => gap === 1).length / gaps.length).toBeGreaterThan(0.8);
});

test("members stay where they are when nothing is gained", () => {
  const equal: LinkTable = () => ({ latencyMs: 1, bytesPerSecond: 1e8 });
  expect(orderRing(names(5), equal, bytes)).toEqual(names(5));
});

test("a slow link is left out of the ring when it can be", () => {
  const slow: LinkTable = (from, to) => ({
    latencyMs: 1,
    bytesPerSecond: [from, to].every((peer) => peer === "peer-0" || peer === "peer-1") ? 1e6 : 1e8,
  });
  const order = orderRing(names(4), slow, bytes);
  const hops = order.map((peer, rank) =>
    [peer, order[(rank + 1) % order.length]!].toSorted((a, b) => a.localeCompare(b)).join(),
  );
  expect(hops).not.toContain("peer-0,peer-1");
});
