import { decode, encode, validate } from "../../../protocol/codec.ts";
import { RingfoldError, toRingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import type { ClusterNetwork, Conversation, RequestContext, Topic } from "../../../protocol/ports.ts";
import type { Life } from "./scheduler.ts";

type Handler = (bytes: Uint8Array, context: RequestContext) => Promise<Uint8Array>;
type ConnectionListener = Parameters<ClusterNetwork["onConnection"]>[0];

/** What a node asks of the network between the nodes. */
export interface NodeNetwork {
  readonly onObeyed: (to: SimulatedNode, protocol: string, request: unknown) => void;
  dial(from: SimulatedNode, to: string, signal: AbortSignal): Promise<unknown>;
  exchange(
    from: SimulatedNode,
    message: { readonly to: string; readonly protocol: string; readonly bytes: Uint8Array },
    options: { readonly signal: AbortSignal | undefined; readonly timeoutMs: number },
  ): Promise<Uint8Array>;
  spread(from: SimulatedNode, topic: string, bytes: Uint8Array): void;
  connectionsOf(node: SimulatedNode): string[];
  crash(node: SimulatedNode): void;
}

/** One node of the simulated network. */
export class SimulatedNode implements ClusterNetwork {
  readonly peerId: string;
  readonly life: Life;
  readonly #network: NodeNetwork;
  readonly #handlers = new Map<string, Handler>();
  readonly #factListeners = new Map<string, ((bytes: Uint8Array, from: string) => void)[]>();
  readonly #connectionListeners: ConnectionListener[] = [];

  constructor(peerId: string, life: Life, network: NodeNetwork) {
    this.peerId = peerId;
    this.life = life;
    this.#network = network;
  }

  addresses(): readonly string[] {
    return [`/simulated/${this.peerId}`];
  }

  async request<Request, Response>(
    to: string,
    conversation: Conversation<Request, Response>,
    request: Request,
    options: { readonly signal?: AbortSignal; readonly timeoutMs?: number } = {},
  ): Promise<Response> {
    const { protocol, response, responseBytesMax } = conversation;
    const answer = await this.#network.exchange(
      this,
      { to, protocol, bytes: encode(request) },
      { signal: options.signal, timeoutMs: options.timeoutMs ?? conversation.timeoutMs },
    );
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
      this.#network.onObeyed(this, protocol, received);
      return encode(validate(answer, response, "response"));
    });
  }

  async publish<Fact>(topic: Topic<Fact>, fact: Fact): Promise<void> {
    this.#network.spread(this, topic.name, encode(validate(fact, topic.schema, "fact")));
  }

  subscribe<Fact>(topic: Topic<Fact>, listener: (fact: Fact, from: string) => void): void {
    const listeners = this.#factListeners.get(topic.name) ?? [];
    listeners.push((bytes, from) => listener(decode(bytes, topic.schema, limits.gossipMessageBytes), from));
    this.#factListeners.set(topic.name, listeners);
  }

  async connect(addresses: readonly string[], signal: AbortSignal): Promise<string> {
    const to = addresses[0]?.split("/").at(-1) ?? "";
    await this.#network.dial(this, to, signal);
    return to;
  }

  connectedPeers(): readonly string[] {
    return this.#network.connectionsOf(this);
  }

  onConnection(listener: ConnectionListener): void {
    this.#connectionListeners.push(listener);
  }

  async close(): Promise<void> {
    this.#network.crash(this);
  }

  async receive(protocol: string, bytes: Uint8Array, context: RequestContext): Promise<Uint8Array> {
    try {
      const handler = this.#handlers.get(protocol);
      if (handler === undefined)
        throw new RingfoldError("PEER_UNREACHABLE", `${this.peerId} does not speak ${protocol}`);
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
