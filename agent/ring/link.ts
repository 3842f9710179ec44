/** What an all-reduce needs of the data plane. Implemented over sockets in agent/network, in memory for tests. */

export interface Segment {
  /** Number of the operation on this ring, from 0; both ends count. */
  readonly operation: number;
  /** Stage of the receiver, 0 to 2(W-1)-1. */
  readonly stage: number;
  readonly segmentIndex: number;
  /** Elements of the whole operation: ranks that disagree about it must not sum. */
  readonly elementCount: number;
  /** f32, little-endian; valid until the next `receive`. */
  readonly payload: Uint8Array;
}

/** From the upstream neighbour. */
export interface UpstreamLink {
  readonly peerId: string;
  /** @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | MESSAGE_INVALID */
  receive(signal: AbortSignal): Promise<Segment>;
  /** Ends the link at once; the neighbour notices within milliseconds. */
  destroy(): void;
}

/** To the downstream neighbour. */
export interface DownstreamLink {
  readonly peerId: string;
  /** Queues a segment; the caller leaves `payload` untouched until `drained` or until the ring proves it sent. */
  send(segment: Segment): void;
  /** Resolves when everything queued has left this process. @throws RingfoldError RING_BROKEN | HOP_TIMEOUT */
  drained(signal: AbortSignal): Promise<void>;
  destroy(): void;
}
