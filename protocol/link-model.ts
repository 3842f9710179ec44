import { doublingRounds } from "./recursive-doubling.ts";

/**
 * The link model: moving d bytes over a link takes k·d + r, with inverse bandwidth k (seconds a byte) and latency r.
 * Source: Hockney, "The communication challenge for MPP", 1994 (t = r + n/bandwidth).
 */
export interface LinkCost {
  /** r: milliseconds until the first byte is there. */
  readonly latencyMs: number;
  /** 1/k. */
  readonly bytesPerSecond: number;
}

export const transferMs = ({ latencyMs, bytesPerSecond }: LinkCost, bytes: number): number =>
  latencyMs + (1_000 * bytes) / bytesPerSecond;

/**
 * Time of one ring all-reduce, predicted from its hops: 2(W-1) rounds, each as long as the slowest hop takes for one
 * chunk of bytes/W.
 *
 * @param hops cost of rank r to rank r+1, for each rank
 */
export function ringAllReduceMs(hops: readonly LinkCost[], bytes: number): number {
  const worldSize = hops.length;
  if (worldSize < 2) return 0;
  return 2 * (worldSize - 1) * Math.max(...hops.map((hop) => transferMs(hop, bytes / worldSize)));
}

/**
 * Time of one all-reduce by recursive doubling: rounds one after the other, each as long as its slowest pair takes for the
 * whole vector. Fewer rounds than the ring's, and more bytes: for vectors whose rounds are latency.
 *
 * @param linkOf cost of sending from one rank to another
 */
export function doublingAllReduceMs(
  linkOf: (from: number, to: number) => LinkCost,
  { worldSize, bytes }: { readonly worldSize: number; readonly bytes: number },
): number {
  return doublingRounds(worldSize).reduce(
    (sum, { hops }) => sum + Math.max(...hops.map(({ from, to }) => transferMs(linkOf(from, to), bytes))),
    0,
  );
}
