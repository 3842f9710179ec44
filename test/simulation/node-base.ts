import { decode, encode, validate } from "../../protocol/codec.ts";
import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import type { ClusterNetwork, Conversation, RequestContext, Topic } from "../../protocol/ports.ts";

type Handler = (bytes: Uint8Array, context: RequestContext) => Promise<Uint8Array>;
export type ConnectionListener = Parameters<ClusterNetwork["onConnection"]>[0];

/** A request as bytes, on its way to a node. */
export interface OutgoingRequest {
  readonly to: string;
  readonly protocol: string;
  readonly bytes: Uint8Array;
  readonly signal: AbortSignal | undefined;
  readonly timeoutMs: number;
}

/** What the nodes of every network without sockets have in common: the real codec, the real bounds, and who listens. */
export abstract class NodeBase implements ClusterNetwork {
  abstract readonly peerId: string;
  readonly #handlers = new Map<string, Handler>();
  readonly #factListeners = new Map<string, ((bytes: Uint8Array, from: string) => void)[]>();
  readonly #connectionListeners: ConnectionListener[] = [];

  abstract addresses(): readonly string[];
  abstract connect(addresses: readonly string[], signal: AbortSignal): Promise<string>;
  abstract connectedPeers(): readonly string[];
  abstract close(): Promise<void>;
  protected abstract exchange(request: OutgoingRequest): Promise<Uint8Array>;
  protected abstract spread(topic: string, bytes: Uint8Array): void;

  /** A handler has answered. */
  protected obeyed(_protocol: string, _request: unknown): void {}

  async request<Request, Response>(
    to: string,
    conversation: Conversation<Request, Response>,
    request: Request,
    options: { readonly signal?: AbortSignal; readonly timeoutMs?: number } = {},
  ): Promise<Response> {
    const { protocol, response, responseBytesMax } = conversation;
    const { signal, timeoutMs = conversation.timeoutMs } = options;
    const answer = await this.exchange({ to, protocol, bytes: encode(request), signal, timeoutMs });
    return decode(answer, response, responseBytesMax);
  }

  handle<Request, Response>(
    conversation: Conversation<Request, Response>,
    handler: (request: Request, context: RequestContext) => Promise<Response>,
  ): void {
    const { protocol, request, requestBytesMax, response } = conversation;
    this.#handlers.set(protocol, async (bytes, context) => {
      const received = decode(bytes, request, requestBytesMax);
      const answer = await handler(received, context);
      this.obeyed(protocol, received);
      return encode(validate(answer, response, "response"));
    });
  }

  async publish<Fact>(topic: Topic<Fact>, fact: Fact): Promise<void> {
    this.spread(topic.name, encode(validate(fact, topic.schema, "fact")));
  }

  subscribe<Fact>(topic: Topic<Fact>, listener: (fact: Fact, from: string) => void): void {
    const listeners = this.#factListeners.get(topic.name) ?? [];
    listeners.push((bytes, from) => listener(decode(bytes, topic.schema, limits.gossipMessageBytes), from));
    this.#factListeners.set(topic.name, listeners);
  }

  onConnection(listener: ConnectionListener): void {
    this.#connectionListeners.push(listener);
  }

  async receive(protocol: string, bytes: Uint8Array, context: RequestContext): Promise<Uint8Array> {
    try {
      const handler = this.#handlers.get(protocol);
      // As over libp2p, where a node that has just started looks the same.
      if (!handler) throw new RingfoldError("PEER_UNREACHABLE", `${this.peerId} does not speak ${protocol}`);
      return await handler(bytes, context);
    } catch (cause) {
      const { code, message, data } = toRingfoldError(cause);
      throw new RingfoldError(code, message, data); // the wire carries neither stack nor cause
    }
  }

  hearFact(topic: string, bytes: Uint8Array, from: string): void {
    for (const listener of this.#factListeners.get(topic) ?? []) listener(bytes, from);
  }

  hearConnection(event: Parameters<ConnectionListener>[0]): void {
    for (const listener of this.#connectionListeners) listener(event);
  }
}
