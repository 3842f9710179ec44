import { NodeBase, type OutgoingRequest } from "../node-base.ts";
import type { Life } from "./scheduler.ts";

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
export class SimulatedNode extends NodeBase {
  readonly peerId: string;
  readonly life: Life;
  readonly #network: NodeNetwork;

  constructor(peerId: string, life: Life, network: NodeNetwork) {
    super();
    this.peerId = peerId;
    this.life = life;
    this.#network = network;
  }

  addresses(): readonly string[] {
    return [`/simulated/${this.peerId}`];
  }

  async connect(addresses: readonly string[], signal: AbortSignal): Promise<string> {
    const to = addresses[0]?.split("/").at(-1) ?? "";
    await this.#network.dial(this, to, signal);
    return to;
  }

  connectedPeers(): readonly string[] {
    return this.#network.connectionsOf(this);
  }

  async close(): Promise<void> {
    this.#network.crash(this);
  }

  protected exchange({ to, protocol, bytes, signal, timeoutMs }: OutgoingRequest): Promise<Uint8Array> {
    return this.#network.exchange(this, { to, protocol, bytes }, { signal, timeoutMs });
  }

  protected spread(topic: string, bytes: Uint8Array): void {
    this.#network.spread(this, topic, bytes);
  }

  protected override obeyed(protocol: string, request: unknown): void {
    this.#network.onObeyed(this, protocol, request);
  }
}
