import { type LinkCost, ringAllReduceMs, transferMs } from "../../protocol/link-model.ts";

/** Cost of sending from one peer to another; every pair must have one. */
export type LinkTable = (from: string, to: string) => LinkCost;

/** All orders of 8 are 5,040 with the first one fixed; 9 would be eight times as many. */
const exactMax = 8;
/** Keeping neighbours keeps sockets, so a new order must be worth it; measurements vary by as much. */
const worthwhileGain = 0.2;
/** Nor is it for less than this a step: below it the measurement is mostly our own event loops. */
const worthwhileMs = 5;

/**
 * Ring order of a generation: `members` as they are, unless another order makes the predicted all-reduce of `bytes` faster
 * by a fifth or more. A ring is as fast as its slowest hop, so that is what the order minimises; among equals the sum.
 */
export function orderRing(members: readonly string[], links: LinkTable, bytes: number): readonly string[] {
  if (members.length < 4) return fastestDirection(members, links, bytes);
  const best =
    members.length <= exactMax ? exactOrder(members, links, bytes) : heuristicOrder(members, links, bytes);
  return isWorthwhile(predictedMs(best, links, bytes), predictedMs(members, links, bytes)) ? best : members;
}

/** Predicted time of one all-reduce of `bytes` in this order. */
export const predictedMs = (order: readonly string[], links: LinkTable, bytes: number): number =>
  ringAllReduceMs(hopsOf(order, links), bytes);

/** Of each rank to the one after it. */
export const hopsOf = (order: readonly string[], links: LinkTable): LinkCost[] =>
  order.map((peerId, rank) => links(peerId, order[(rank + 1) % order.length]!));

/** Of two or three there is one ring, which can run in two directions. */
function fastestDirection(members: readonly string[], links: LinkTable, bytes: number): readonly string[] {
  const [first, ...rest] = members;
  if (rest.length < 2) return members;
  const reversed = [first!, ...rest.toReversed()];
  return isWorthwhile(predictedMs(reversed, links, bytes), predictedMs(members, links, bytes))
    ? reversed
    : members;
}

/** Whether another way is worth it: its time and that of the present one, in milliseconds. */
export const isWorthwhile = (thenMs: number, nowMs: number): boolean =>
  thenMs < (1 - worthwhileGain) * nowMs && nowMs - thenMs > worthwhileMs;

/** The best order: every permutation of all but the first, cut short where a hop is already too slow. */
export function exactOrder(members: readonly string[], links: LinkTable, bytes: number): readonly string[] {
  const cost = hopCosts(members, links, bytes);
  let best: Candidate = evaluate(
    members.map((_, i) => i),
    cost,
  );
  const order = [0];
  const used = members.map((_, i) => i === 0);
  const extend = (slowest: number, sum: number): void => {
    const last = order.at(-1)!;
    if (order.length === members.length) {
      const closing = cost[last]![0]!;
      const candidate = { order: [...order], slowest: Math.max(slowest, closing), sum: sum + closing };
      if (isBetter(candidate, best)) best = candidate;
      return;
    }
    for (let next = 1; next < members.length; next++) {
      const hop = cost[last]![next]!;
      if (used[next] || Math.max(slowest, hop) > best.slowest) continue;
      used[next] = true;
      order.push(next);
      extend(Math.max(slowest, hop), sum + hop);
      order.pop();
      used[next] = false;
    }
  };
  extend(0, 0);
  return best.order.map((i) => members[i]!);
}

/**
 * For larger worlds: nearest neighbour from every start, then moves of single members and reversals of stretches (2-opt)
 * until none helps. Its gap to the exact order is measured in the tests for up to 8 members.
 * Cost: O(n^3) a round; 64 members take some 50 ms.
 */
export function heuristicOrder(
  members: readonly string[],
  links: LinkTable,
  bytes: number,
): readonly string[] {
  const cost = hopCosts(members, links, bytes);
  let best = evaluate(
    members.map((_, i) => i),
    cost,
  );
  const starts = Math.min(members.length, 16);
  for (let start = 0; start < starts; start++) {
    const improved = improve(nearestNeighbours(start, cost), cost);
    if (isBetter(improved, best)) best = improved;
  }
  const first = best.order.indexOf(0);
  return [...best.order.slice(first), ...best.order.slice(0, first)].map((i) => members[i]!);
}

interface Candidate {
  readonly order: readonly number[];
  readonly slowest: number;
  readonly sum: number;
}

const isBetter = (a: Candidate, b: Candidate): boolean =>
  a.slowest < b.slowest || (a.slowest === b.slowest && a.sum < b.sum);

/** cost[i][j]: milliseconds of one round over the hop i to j. */
function hopCosts(members: readonly string[], links: LinkTable, bytes: number): number[][] {
  return members.map((from) =>
    members.map((to) => (from === to ? 0 : transferMs(links(from, to), bytes / members.length))),
  );
}

function evaluate(order: readonly number[], cost: readonly (readonly number[])[]): Candidate {
  let slowest = 0;
  let sum = 0;
  for (const [rank, member] of order.entries()) {
    const hop = cost[member]![order[(rank + 1) % order.length]!]!;
    slowest = Math.max(slowest, hop);
    sum += hop;
  }
  return { order, slowest, sum };
}

function nearestNeighbours(start: number, cost: readonly (readonly number[])[]): number[] {
  const order = [start];
  const left = new Set(cost.keys());
  left.delete(start);
  while (left.size > 0) {
    const from = cost[order.at(-1)!]!;
    const next = [...left].reduce((nearest, member) => (from[member]! < from[nearest]! ? member : nearest));
    order.push(next);
    left.delete(next);
  }
  return order;
}

function improve(start: readonly number[], cost: readonly (readonly number[])[]): Candidate {
  let best = evaluate(start, cost);
  for (let improved = true; improved; ) {
    improved = false;
    for (const order of neighbours(best.order)) {
      const candidate = evaluate(order, cost);
      if (!isBetter(candidate, best)) continue;
      best = candidate;
      improved = true;
      break;
    }
  }
  return best;
}

/** One member moved elsewhere, or one stretch reversed. */
function* neighbours(order: readonly number[]): Generator<number[]> {
  for (let from = 0; from < order.length; from++) {
    const without = order.toSpliced(from, 1);
    for (let to = 0; to < order.length; to++) if (to !== from) yield without.toSpliced(to, 0, order[from]!);
    for (let end = from + 2; end <= order.length; end++) {
      yield [...order.slice(0, from), ...order.slice(from, end).reverse(), ...order.slice(end)];
    }
  }
}
