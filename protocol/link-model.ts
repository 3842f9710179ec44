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

/** The same where no more than `flightBytes` may be under way: what is beyond waits for the latency once more. */
const roundMs = (link: LinkCost, bytes: number, flightBytes: number): number =>
  Math.max(transferMs(link, bytes), link.latencyMs * Math.ceil(bytes / flightBytes));

/**
 * Time of one ring all-reduce, predicted from its hops: 2(W-1) rounds, each as long as the slowest hop takes for one
 * chunk of bytes/W.
 *
 * @param hops cost of rank r to rank r+1, for each rank
 * @param flightBytes that one rank may have under way; all unless told
 */
export function ringAllReduceMs(
  hops: readonly LinkCost[],
  bytes: number,
  flightBytes = Number.POSITIVE_INFINITY,
): number {
  const worldSize = hops.length;
  if (worldSize < 2) return 0;
  const chunkMs = hops.map((hop) => roundMs(hop, bytes / worldSize, flightBytes));
  return 2 * (worldSize - 1) * Math.max(...chunkMs);
}

/**
 * Time of one all-reduce by recursive doubling: rounds one after the other, each as long as its slowest pair takes for the
 * whole vector. Fewer rounds than the ring's, and more bytes: for vectors whose rounds are latency.
 *
 * @param linkOf cost of sending from one rank to another
 * @param of.flightBytes that one rank may have under way; all unless told
 */
export function doublingAllReduceMs(
  linkOf: (from: number, to: number) => LinkCost,
  {
    worldSize,
    bytes,
    flightBytes = Number.POSITIVE_INFINITY,
  }: { readonly worldSize: number; readonly bytes: number; readonly flightBytes?: number },
): number {
  return doublingRounds(worldSize).reduce(
    (sum, { hops }) =>
      sum + Math.max(...hops.map(({ from, to }) => roundMs(linkOf(from, to), bytes, flightBytes))),
    0,
  );
}
