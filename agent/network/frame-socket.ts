/** What the data plane hands out: frames, in order, between two peers that have proven who they are. */
export interface Frame {
  readonly kind: number;
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly d: number;
  /** Valid until the next `receive`. */
  readonly payload: Uint8Array;
}

export const frameKind = { hello: 1, segment: 2, state: 3 } as const;

/** Implemented over TCP and TLS in data-socket.ts, and in memory by the simulator. */
export interface FrameSocket {
  /** Proven by the certificate; over plain TCP only claimed by the hello. */
  readonly peerId: string;
  /** Queues a frame. The payload is referenced, not copied, until it has left this process. */
  send(frame: Frame): void;
  /** One waiter at a time. @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | MESSAGE_TOO_LARGE | CANCELLED */
  receive(signal: AbortSignal): Promise<Frame>;
  /** Resolves when every queued frame has left. @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | CANCELLED */
  drained(signal: AbortSignal): Promise<void>;
  /** A polite end: what is queued still leaves. */
  end(): void;
  /** Ends the socket at once; the peer notices within milliseconds. */
  destroy(): void;
}
