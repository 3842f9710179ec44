import { RingfoldError } from "../../../protocol/errors.ts";
import { NodeBase, type OutgoingRequest } from "../node-base.ts";
import { Traffic } from "./traffic.ts";

/**
 * A network of one coordinator and many agents that speak with it alone: what a cluster of a thousand looks like to the
 * coordinator, without the cost of all that its members have to say to each other.
 */
export class Star {
  readonly traffic = new Traffic();
  readonly hub: StarNode;
  readonly #tips = new Map<string, StarNode>();

  constructor(hubId: string) {
    this.hub = new StarNode(hubId, this);
  }

  open(peerId: string): StarNode {
    const node = new StarNode(peerId, this);
    this.#tips.set(peerId, node);
    queueMicrotask(() => this.hub.hearConnection({ peerId, connected: true }));
    return node;
  }

  /** Its socket closes. */
  crash(peerId: string): void {
    if (this.#tips.delete(peerId))
      queueMicrotask(() => this.hub.hearConnection({ peerId, connected: false }));
  }

  connectedPeers(): readonly string[] {
    return [...this.#tips.keys()];
  }

  async carry(from: string, { to, protocol, bytes, ...options }: OutgoingRequest): Promise<Uint8Array> {
    const node = to === this.hub.peerId ? this.hub : this.#tips.get(to);
    if (!node) throw new RingfoldError("PEER_UNREACHABLE", `${to} cannot be reached`, { peer: to });
    const signal = options.signal ?? AbortSignal.timeout(options.timeoutMs);
    const answer = await node.receive(protocol, bytes, { from, signal });
    this.traffic.add(protocol, bytes.length + answer.length);
    return answer;
  }

  spread(from: string, topic: string, bytes: Uint8Array): void {
    if (from === this.hub.peerId) return;
    this.traffic.add(topic, bytes.length);
    queueMicrotask(() => this.hub.hearFact(topic, bytes, from));
  }
}

class StarNode extends NodeBase {
  readonly peerId: string;
  readonly #star: Star;

  constructor(peerId: string, star: Star) {
    super();
    this.peerId = peerId;
    this.#star = star;
  }

  addresses(): readonly string[] {
    return [`/memory/${this.peerId}`];
  }

  async connect(): Promise<string> {
    return this.#star.hub.peerId;
  }

  connectedPeers(): readonly string[] {
    return this === this.#star.hub ? this.#star.connectedPeers() : [this.#star.hub.peerId];
  }

  async close(): Promise<void> {
    this.#star.crash(this.peerId);
  }

  protected exchange(request: OutgoingRequest): Promise<Uint8Array> {
    return this.#star.carry(this.peerId, request);
  }

  protected spread(topic: string, bytes: Uint8Array): void {
    this.#star.spread(this.peerId, topic, bytes);
  }
}
