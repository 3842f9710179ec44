import type { Wire } from "../../protocol/job-spec.ts";

export type Plane = "tls" | "plain" | "rawTcp" | "gloo" | "openmpi" | "openmpiShared";

/** One measured way of summing. */
export interface Lane {
  readonly plane: Plane;
  readonly wire: Wire;
}

/** `operations` all-reduces of `bytes` (f32 on every rank), one after the other. */
export interface Order extends Lane {
  readonly bytes: number;
  readonly operations: number;
  /** Whether to look every millisecond how long the event loop is held: it costs time, so those operations do not count. */
  readonly watchesLoop: boolean;
}

export interface Measurement {
  /** Of each operation: the slowest rank's time between a barrier and its result. */
  readonly ms: readonly number[];
  /** Whether every element of every result was right, and the ranks ended with the same bits. */
  readonly checked: boolean;
  /** Processor time of all ranks together inside the operations; absent where nobody counted. */
  readonly cpuMs?: number;
  /** The worst rank's 99th percentile inside the operations, where it was looked at. */
  readonly eventLoopDelayP99Ms?: number;
}

/** A team of processes, one a rank, that waits idle between orders. */
export interface Contender {
  readonly lanes: readonly Lane[];
  measure(order: Order): Promise<Measurement>;
  close(): Promise<void>;
}

/** The slowest rank of each operation. @param perRank milliseconds, [rank][operation] */
export const slowestOf = (perRank: readonly (readonly number[])[]): number[] =>
  perRank[0]!.map((_, operation) => Math.max(...perRank.map((ms) => ms[operation]!)));
