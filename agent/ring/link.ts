/** What an all-reduce needs of the data plane. Implemented over sockets in agent/network, in memory for tests. */

export interface Segment {
  /** Number of the operation on this ring, from 0; both ends count. */
  readonly operation: number;
  /** Stage of the receiver, 0 to 2(W-1)-1. */
  readonly stage: number;
  readonly segmentIndex: number;
  /** Elements of the whole operation: ranks that disagree about it must not sum. */
  readonly elementCount: number;
  /** Code of the wire format, likewise. */
  readonly wireCode: number;
  /** Valid until the next `receive`, or until whoever took it has answered. */
  readonly payload: Uint8Array;
  /**
   * The 64 bytes ahead of the payload, and what pads it to a multiple of 64, are the link's to write on: it puts its
   * header there and sends all in one piece.
   */
  readonly headroom?: boolean;
}

/** Takes one segment; answers, now or later, whether it wants another. What it throws ends the wait. */
export type TakeSegment = (segment: Segment) => boolean | Promise<boolean>;

/** Where the payload of a segment that is on its way shall arrive; undefined leaves it to the link. */
export type PlaceSegment = (
  segment: Omit<Segment, "payload"> & { readonly payloadBytes: number },
) => Uint8Array | undefined;

/** From the upstream neighbour. */
export interface UpstreamLink {
  readonly peerId: string;
  /** Counted at the socket, frames' headers and padding included. */
  readonly bytesReceived: number;
  /** @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | MESSAGE_INVALID */
  receive(signal: AbortSignal): Promise<Segment>;
  /** `receive` again and again without a promise for each; absent where that gains nothing. @throws as `receive` */
  receiveEach?(take: TakeSegment, signal: AbortSignal, place?: PlaceSegment): Promise<void>;
  /** How long no whole segment may come while somebody waits for one. */
  hopTimeoutMs: number;
  /** Ends the link at once; the neighbour notices within milliseconds. */
  destroy(): void;
}

/** To the downstream neighbour. */
export interface DownstreamLink {
  readonly peerId: string;
  /** Segments that were sent and whose bytes have not left this process: their payloads must stay as they are. */
  readonly pendingCount: number;
  /** Counted at the socket, frames' headers and padding included. */
  readonly bytesSent: number;
  /** How long the neighbour may take nothing while somebody waits for it. */
  hopTimeoutMs: number;
  /** Aborts when the link ends; the reason is a RingfoldError RING_BROKEN. */
  readonly closed: AbortSignal;
  /** Queues a segment without copying its payload. */
  send(segment: Segment): void;
  /** Resolves when at most `pendingMax` (0 unless told) segments are pending. @throws RingfoldError RING_BROKEN | HOP_TIMEOUT */
  drained(signal: AbortSignal, pendingMax?: number): Promise<void>;
  destroy(): void;
}

/**
 * What one rank has of its neighbours: in a ring it receives from one and sends to another one; with recursive doubling
 * these are the two directions of one connection.
 */
export interface PeerLinks {
  readonly upstream: UpstreamLink;
  readonly downstream: DownstreamLink;
}

export async function receiveEach(
  upstream: UpstreamLink,
  take: TakeSegment,
  signal: AbortSignal,
  place?: PlaceSegment,
): Promise<void> {
  if (upstream.receiveEach) return upstream.receiveEach(take, signal, place);
  for (;;) {
    const answer = take(await upstream.receive(signal));
    if (!(answer === true || (answer !== false && (await answer)))) return;
  }
}
