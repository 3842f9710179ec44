/**
 * The seams: time, network and store are ports, so that a seeded simulator can drive the real code.
 * Implementations live in agent/network, coordinator/store and test/simulation.
 */

import type { z } from "zod";

export interface Clock {
  /** Milliseconds since the Unix epoch: for what people read, and what is signed. It may be set while we run. */
  nowMs(): number;
  /** Milliseconds since some moment of this process, never set: for silence, deadlines and intervals. */
  monotonicMs(): number;
  /** Calls back once; the returned function cancels. */
  after(delayMs: number, callback: () => void): () => void;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  after: (delayMs, callback) => {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};

/** The part of pino that we use. */
export interface Log {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

/** One kind of request and its answer. Both sides validate. */
export interface Conversation<Request, Response> {
  /** libp2p protocol id, for example `/ringfold/membership/join/1`. */
  readonly protocol: string;
  readonly request: z.ZodType<Request>;
  readonly response: z.ZodType<Response>;
  readonly requestBytesMax: number;
  readonly responseBytesMax: number;
  readonly timeoutMs: number;
}

/** Facts that peers tell each other; small, idempotent, unordered. */
export interface Topic<Fact> {
  readonly name: string;
  readonly schema: z.ZodType<Fact>;
}

export interface RequestContext {
  /** Authenticated by the connection, not by the message. */
  readonly from: string;
  readonly signal: AbortSignal;
}

/** Authenticated, private, bounded messaging between the members of one cluster. */
export interface ClusterNetwork {
  readonly peerId: string;
  /** Dialable multiaddrs of this node. */
  addresses(): readonly string[];
  /**
   * @throws RingfoldError PEER_UNREACHABLE | REQUEST_TIMEOUT | MESSAGE_INVALID, or the code that the peer refused with
   */
  request<Request, Response>(
    to: string,
    conversation: Conversation<Request, Response>,
    request: Request,
    options?: { readonly signal?: AbortSignal; readonly timeoutMs?: number },
  ): Promise<Response>;
  handle<Request, Response>(
    conversation: Conversation<Request, Response>,
    handler: (request: Request, context: RequestContext) => Promise<Response>,
  ): void;
  publish<Fact>(topic: Topic<Fact>, fact: Fact): Promise<void>;
  subscribe<Fact>(topic: Topic<Fact>, listener: (fact: Fact, from: string) => void): void;
  /** Dials one of the multiaddrs; resolves with the peer id that answered. */
  connect(addresses: readonly string[], signal: AbortSignal): Promise<string>;
  connectedPeers(): readonly string[];
  /** `connected` and `disconnected` follow the sockets: a SIGKILL of the peer shows within milliseconds. */
  onConnection(listener: (event: { readonly peerId: string; readonly connected: boolean }) => void): void;
  close(): Promise<void>;
}

/** One durable write: put, or delete when `value` is undefined. */
export interface StoreWrite {
  readonly key: string;
  readonly value: Uint8Array | undefined;
}

/**
 * An ordered key-value store. `write` is atomic and resolves only when the data is on disk: durable before visible.
 * @throws RingfoldError STORE_FAILED | STORE_NEWER
 */
export interface Store {
  get(key: string): Uint8Array | undefined;
  /** Keys with this prefix in byte order. */
  list(prefix: string): Iterable<{ readonly key: string; readonly value: Uint8Array }>;
  write(writes: readonly StoreWrite[]): Promise<void>;
  close(): Promise<void>;
}
