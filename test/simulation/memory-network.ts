import assert from "node:assert";
import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import { type Clock, type ClusterNetwork, systemClock } from "../../protocol/ports.ts";
import { NodeBase, type OutgoingRequest } from "./node-base.ts";

/** A request on its way: ends with the answer, the deadline, the caller, or the death of either end. */
interface Exchange {
  readonly from: string;
  readonly to: string;
  readonly fail: (error: RingfoldError) => void;
}

/**
 * A cluster's network inside one process: every node sees every other. Messages go through the real codec and the
 * real bounds and arrive in a later microtask, in order; nothing is random.
 */
export class MemoryCluster {
  readonly #clock: Clock;
  readonly #nodes = new Map<string, MemoryNode>();
  readonly #exchanges = new Set<Exchange>();

  constructor(clock: Clock = systemClock) {
    this.#clock = clock;
  }

  /** Adds a node; the others hear that it connected. */
  open(peerId: string): ClusterNetwork {
    const node = new MemoryNode(peerId, this);
    this.#nodes.set(peerId, node);
    this.#announce(peerId, true);
    return node;
  }

  /** Ends a node as SIGKILL would: whatever waits for it, or by it, fails; the others hear of the closed sockets. */
  crash(peerId: string): void {
    if (!this.#nodes.delete(peerId)) return;
    for (const exchange of [...this.#exchanges]) {
      if (exchange.from === peerId || exchange.to === peerId) exchange.fail(unreachable(exchange.to));
    }
    this.#announce(peerId, false);
  }

  /** Everyone but `peerId`. */
  others(peerId: string): MemoryNode[] {
    return [...this.#nodes.values()].filter((node) => node.peerId !== peerId);
  }

  async exchange(
    route: { readonly from: string; readonly to: string; readonly protocol: string },
    bytes: Uint8Array,
    options: { readonly signal: AbortSignal | undefined; readonly timeoutMs: number },
  ): Promise<Uint8Array> {
    const { from, to, protocol } = route;
    // As the real one: its timers refuse fractions.
    assert(Number.isSafeInteger(options.timeoutMs), `timeoutMs is ${options.timeoutMs}`);
    const controller = new AbortController();
    const answer = Promise.withResolvers<Uint8Array>();
    const fail = (error: RingfoldError) => {
      answer.reject(error);
      controller.abort(error);
    };
    const exchange: Exchange = { from, to, fail };
    const onAbort = () => fail(toRingfoldError(options.signal?.reason, "CANCELLED"));
    if (options.signal?.aborted) onAbort();
    options.signal?.addEventListener("abort", onAbort, { once: true });
    const cancelTimer = this.#clock.after(options.timeoutMs, () =>
      fail(new RingfoldError("REQUEST_TIMEOUT", `${to} did not answer in ${options.timeoutMs} ms`)),
    );
    this.#exchanges.add(exchange);
    queueMicrotask(() => {
      const node = this.#nodes.has(from) ? this.#nodes.get(to) : undefined;
      if (node === undefined) return fail(unreachable(to));
      node.receive(protocol, bytes, { from, signal: controller.signal }).then(answer.resolve, answer.reject);
    });
    try {
      return await answer.promise;
    } finally {
      cancelTimer();
      options.signal?.removeEventListener("abort", onAbort);
      this.#exchanges.delete(exchange);
    }
  }

  #announce(peerId: string, connected: boolean): void {
    for (const node of this.others(peerId)) queueMicrotask(() => node.hearConnection({ peerId, connected }));
  }
}

class MemoryNode extends NodeBase {
  readonly peerId: string;
  readonly #cluster: MemoryCluster;

  constructor(peerId: string, cluster: MemoryCluster) {
    super();
    this.peerId = peerId;
    this.#cluster = cluster;
  }

  addresses(): readonly string[] {
    return [`/memory/${this.peerId}`];
  }

  async connect(addresses: readonly string[], signal: AbortSignal): Promise<string> {
    signal.throwIfAborted();
    const known = this.connectedPeers().find((peerId) => addresses.includes(`/memory/${peerId}`));
    if (known === undefined) throw unreachable(addresses.join(", "));
    return known;
  }

  connectedPeers(): readonly string[] {
    return this.#cluster.others(this.peerId).map(({ peerId }) => peerId);
  }

  async close(): Promise<void> {
    this.#cluster.crash(this.peerId);
  }

  protected exchange({ to, protocol, bytes, ...options }: OutgoingRequest): Promise<Uint8Array> {
    return this.#cluster.exchange({ from: this.peerId, to, protocol }, bytes, options);
  }

  protected spread(topic: string, bytes: Uint8Array): void {
    for (const node of this.#cluster.others(this.peerId))
      queueMicrotask(() => node.hearFact(topic, bytes, this.peerId));
  }
}

const unreachable = (to: string): RingfoldError =>
  new RingfoldError("PEER_UNREACHABLE", `${to} cannot be reached`, { peer: to });

/** A well-formed peer id that ends in the number. */
export const memoryPeerId = (index: number): string =>
  `12D3KooW${String(index).replaceAll("0", "z").padStart(44, "A")}`;
