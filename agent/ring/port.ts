import type { Wire } from "../../protocol/job-spec.ts";

export interface AllReduceOptions {
  /** f32 unless told. */
  readonly wire?: Wire;
  /** The last so many elements travel as f32 whatever the wire: counts and votes. */
  readonly exactTail?: number;
  /**
   * Error feedback for a lossy wire, f32 [length - exactTail], in the ring's memory if the buffer is: added to what this
   * rank contributes, then replaced by what rounding lost on this rank. Contents undefined after a throw.
   * Source: Seide et al., "1-bit stochastic gradient descent", 2014.
   */
  readonly residual?: Float32Array;
}

/**
 * What those who train know of a ring: `Ring` where it shares their thread, `ThreadedRing` (agent/training/ring-host)
 * where it has one of its own and works while they compute.
 *
 * Operations may be called one after the other without waiting; they run in that order, which must be the same on every
 * rank. When one throws, the ring is dead, and those behind it throw as well.
 */
export interface RingPort {
  readonly rank: number;
  readonly worldSize: number;
  /** What this rank has sent to its neighbour since the links stand, counted at the socket. */
  readonly sentBytes: number;
  /** Time that operations have taken so far, waiting for slower ranks included. */
  readonly busyMs: number;
  /** The links have carried what they may: end this generation at the next boundary. */
  readonly isWornOut: boolean;
  /**
   * How long a neighbour may send, or take, no whole segment while this rank waits for it.
   * An operation that is under way may still end by the bound before.
   */
  set hopTimeoutMs(timeoutMs: number);
  /**
   * Sums `buffer` over all ranks, in place; every rank ends with the same bytes.
   *
   * Infinities and NaN come out as NaN or infinities on every rank with any wire, never as numbers.
   *
   * @param buffer f32, the same length on each rank; not to be touched meanwhile; contents undefined after a throw
   * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | MESSAGE_INVALID | CANCELLED
   * Cost: each rank sends 2(W-1)/W * length * 4 bytes with f32, 2 with bf16, 1.016 with int8.
   * Source: Patarasuk & Yuan, "Bandwidth optimal all-reduce algorithms", 2009.
   */
  allReduce(buffer: Float32Array, signal: AbortSignal, options?: AllReduceOptions): Promise<void>;
  /**
   * Brings what each rank contributes to every rank.
   *
   * @param payload of this rank; must stay as it is until the end
   * @param payloadBytesMax no rank contributes more, or MESSAGE_INVALID; the same on each rank
   * @returns by rank, our own included
   * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | MESSAGE_INVALID | CANCELLED
   * Cost: each rank sends what the W-1 ranks upstream of its neighbour contribute, itself included.
   */
  allGather(
    payload: Uint8Array,
    signal: AbortSignal,
    options: { readonly payloadBytesMax: number },
  ): Promise<readonly Uint8Array[]>;
  /** Resolves when every rank has arrived here. @throws as allReduce */
  barrier(signal: AbortSignal): Promise<void>;
  /**
   * For whoever works between two operations: nobody ends a ring there but by a failure.
   * @throws RingfoldError RING_BROKEN when the downstream neighbour has closed its link
   */
  throwIfBroken(): void;
  destroy(): void;
}
