/** What the data plane hands out: frames, in order, between two peers that have proven who they are. */
export interface Frame {
  readonly kind: number;
  readonly a: number;
  readonly b: number;
  readonly c: number;
  readonly d: number;
  /** Valid until the next `receive`, or until whoever took it has answered. */
  readonly payload: Uint8Array;
  /** The `frameHeaderBytes` ahead of the payload, and its padding, may be written on: the frame then leaves in one piece. */
  readonly headroom?: boolean;
}

export const frameKind = { hello: 1, segment: 2, state: 3 } as const;

/** Takes one frame; answers, now or later, whether it wants another. What it throws ends the wait. */
export type TakeFrame = (frame: Frame) => boolean | Promise<boolean>;

/**
 * Where the payload of a frame shall arrive, asked when its header is here and the payload is not; undefined leaves it to
 * the socket. The frame is then handed out with that payload.
 */
export type PlaceFrame = (frame: Omit<Frame, "payload"> & { readonly payloadBytes: number }) => Placed;
type Placed = Uint8Array | undefined;

/** Implemented over TCP and TLS in data-socket.ts, and in memory by the simulator. */
export interface FrameSocket {
  /** Proven by the certificate; over plain TCP only claimed by the hello. */
  readonly peerId: string;
  /** Frames that were sent and have not left this process. */
  readonly pendingCount: number;
  /** Headers and padding included, TLS's own not. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** How long the peer may send, or take, no whole frame while somebody waits for it; may be set anew at any time. */
  hopTimeoutMs: number;
  /** Aborts when the connection ends, whoever ended it; the reason is a RingfoldError RING_BROKEN. */
  readonly closed: AbortSignal;
  /** Queues a frame. The payload is referenced, not copied, until it has left this process. */
  send(frame: Frame): void;
  /** One waiter at a time. @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | MESSAGE_TOO_LARGE | CANCELLED */
  receive(signal: AbortSignal): Promise<Frame>;
  /** `receive` again and again without a promise for each; absent where that gains nothing. @throws as `receive` */
  receiveEach?(take: TakeFrame, signal: AbortSignal, place?: PlaceFrame): Promise<void>;
  /**
   * Resolves when at most `pendingMax` (0 unless told) frames are pending.
   * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | CANCELLED
   */
  drained(signal: AbortSignal, pendingMax?: number): Promise<void>;
  /** A polite end: what is queued still leaves. */
  end(): void;
  /** Ends the socket at once; the peer notices within milliseconds. */
  destroy(): void;
}
