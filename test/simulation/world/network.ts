import { RingfoldError, toRingfoldError } from "../../../protocol/errors.ts";
import { type NodeNetwork, SimulatedNode } from "./node.ts";
import type { Life } from "./scheduler.ts";
import type { Wire } from "./wire.ts";
import type { World } from "./world.ts";

/** A connection between two nodes; what was sent before one of them died may still arrive. */
interface Connection {
  readonly ends: readonly [SimulatedNode, SimulatedNode];
  open: boolean;
}

interface Exchange {
  readonly connection: Connection;
  readonly fail: (error: RingfoldError) => void;
}

/** libp2p pings each connection and gives it up when the answers stay away; this is how long that takes. */
const givenUpAfterMs = { min: 8_000, max: 20_000 } as const;
/** A late duplicate is at most this late. */
const duplicateDelayMs = 400;

/** The control plane of all nodes: connections that are dialled and break, requests and gossip, over the real codec. */
export class SimulatedNetwork implements NodeNetwork {
  readonly world: World;
  readonly wire: Wire;
  readonly #nodes = new Map<string, SimulatedNode>();
  readonly #connections = new Set<Connection>();
  readonly #exchanges = new Set<Exchange>();
  /** Called with each request that a handler has answered without an error. */
  onObeyed: (to: SimulatedNode, protocol: string, request: unknown) => void = () => {};

  constructor(world: World, wire: Wire) {
    this.world = world;
    this.wire = wire;
  }

  open(peerId: string, life: Life): SimulatedNode {
    const node = new SimulatedNode(peerId, life, this);
    this.#nodes.set(peerId, node);
    return node;
  }

  node(peerId: string): SimulatedNode | undefined {
    return this.#nodes.get(peerId);
  }

  /** Ends a node as SIGKILL would: the other ends of its connections hear of it as soon as the cable lets them. */
  crash(node: SimulatedNode): void {
    if (this.#nodes.get(node.peerId) === node) this.#nodes.delete(node.peerId);
    for (const connection of [...this.#connections])
      if (connection.ends.includes(node)) this.#close(connection);
  }

  /** A cut lasts: both ends give the connections up, each in its own time. */
  giveUpLater(peerId: string): void {
    for (const connection of this.#connections) {
      const [a, b] = connection.ends;
      if (a.peerId !== peerId && b.peerId !== peerId) continue;
      this.world.scheduler.after(
        this.world.random.real(givenUpAfterMs.min, givenUpAfterMs.max),
        () => this.wire.isCut("control", a.peerId, b.peerId) && this.#close(connection),
      );
    }
  }

  connectionsOf(node: SimulatedNode): string[] {
    return [...this.#connections]
      .filter(({ ends }) => ends.includes(node))
      .map(({ ends }) => (ends[0] === node ? ends[1] : ends[0]).peerId);
  }

  /** @throws RingfoldError PEER_UNREACHABLE */
  async dial(from: SimulatedNode, to: string, signal: AbortSignal): Promise<Connection> {
    const arrived = Promise.withResolvers<Connection>();
    const onAbort = () => arrived.reject(unreachable(to));
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    this.wire.carry("control", { from: from.peerId, to }, () =>
      this.wire.carry("control", { from: to, to: from.peerId }, () => {
        const node = this.#nodes.get(to);
        if (!node?.life.alive || !from.life.alive) return arrived.reject(unreachable(to));
        arrived.resolve(this.#connect(from, node));
      }),
    );
    try {
      return await arrived.promise;
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  async exchange(
    from: SimulatedNode,
    message: { readonly to: string; readonly protocol: string; readonly bytes: Uint8Array },
    options: { readonly signal: AbortSignal | undefined; readonly timeoutMs: number },
  ): Promise<Uint8Array> {
    const { to } = message;
    const answer = Promise.withResolvers<Uint8Array>();
    const gone = new AbortController();
    const fail = (error: RingfoldError) => {
      answer.reject(error);
      gone.abort(error);
    };
    const onAbort = () => fail(toRingfoldError(options.signal?.reason, "CANCELLED"));
    options.signal?.addEventListener("abort", onAbort, { once: true });
    if (options.signal?.aborted) onAbort();
    const cancelTimer = from.life.after(options.timeoutMs, () =>
      fail(new RingfoldError("REQUEST_TIMEOUT", `no answer from ${to} in ${options.timeoutMs} ms`)),
    );
    let exchange: Exchange | undefined;
    try {
      const connection = this.#between(from, to) ?? (await this.dial(from, to, gone.signal));
      exchange = { connection, fail };
      this.#exchanges.add(exchange);
      this.#send(connection, from, message, gone.signal, answer);
      return await answer.promise;
    } finally {
      answer.promise.catch(() => undefined); // a dial that failed first is the error that counts
      if (exchange) this.#exchanges.delete(exchange);
      cancelTimer();
      options.signal?.removeEventListener("abort", onAbort);
    }
  }

  spread(from: SimulatedNode, topic: string, bytes: Uint8Array): void {
    for (const node of this.#nodes.values()) {
      if (node === from || this.world.random.chance(this.wire.weather.gossipLoss)) continue;
      if (this.wire.isCut("control", from.peerId, node.peerId)) continue;
      this.wire.carry("control", { from: from.peerId, to: node.peerId }, () => {
        if (node.life.alive) node.hearFact(topic, bytes, from.peerId);
      });
    }
  }

  #send(
    connection: Connection,
    from: SimulatedNode,
    { to, protocol, bytes }: { readonly to: string; readonly protocol: string; readonly bytes: Uint8Array },
    signal: AbortSignal,
    answer: PromiseWithResolvers<Uint8Array>,
  ): void {
    const { random, scheduler } = this.world;
    const node = connection.ends[0] === from ? connection.ends[1] : connection.ends[0];
    const { requestLoss, duplication } = this.wire.weather;
    const lost = random.chance(requestLoss);
    const lostBeforeArrival = lost && random.chance(0.5);
    const lose = () => answer.reject(unreachable(to));
    const reply = (settle: () => void) =>
      this.wire.carry("control", { from: to, to: from.peerId }, () => {
        if (!from.life.alive || !connection.open) return;
        if (lost) lose();
        else settle();
      });
    const arrive = () => {
      if (!node.life.alive) return;
      if (lostBeforeArrival) return void reply(lose);
      node.receive(protocol, bytes, { from: from.peerId, signal }).then(
        (bytesBack) => reply(() => answer.resolve(bytesBack)),
        (error) => reply(() => answer.reject(error)),
      );
    };
    this.wire.carry("control", { from: from.peerId, to }, arrive);
    if (!protocol.startsWith("/ringfold/job/") || !random.chance(duplication)) return;
    scheduler.after(random.real(0, duplicateDelayMs), () =>
      this.wire.carry("control", { from: from.peerId, to }, () => {
        if (node.life.alive)
          node.receive(protocol, bytes, { from: from.peerId, signal }).catch(() => undefined);
      }),
    );
  }

  #between(a: SimulatedNode, peerId: string): Connection | undefined {
    for (const connection of this.#connections) {
      const [first, second] = connection.ends;
      if ((first === a && second.peerId === peerId) || (second === a && first.peerId === peerId))
        return connection;
    }
    return undefined;
  }

  #connect(a: SimulatedNode, b: SimulatedNode): Connection {
    const present = this.#between(a, b.peerId);
    if (present) return present;
    const connection: Connection = { ends: [a, b], open: true };
    this.#connections.add(connection);
    a.hearConnection({ peerId: b.peerId, connected: true });
    b.hearConnection({ peerId: a.peerId, connected: true });
    return connection;
  }

  #close(connection: Connection): void {
    if (!this.#connections.delete(connection)) return;
    connection.open = false;
    const [a, b] = connection.ends;
    for (const exchange of [...this.#exchanges])
      if (exchange.connection === connection)
        this.world.scheduler.after(this.wire.latencyMs(), () => exchange.fail(unreachable("the peer")));
    for (const [node, other] of [
      [a, b],
      [b, a],
    ] as const) {
      const tell = () => {
        if (node.life.alive && !this.#between(node, other.peerId))
          node.hearConnection({ peerId: other.peerId, connected: false });
      };
      // A cut cable carries no news of a death: it comes when the cable is mended, or a ping finds out before.
      if (other.life.alive || !this.wire.isCut("control", a.peerId, b.peerId))
        this.world.scheduler.after(this.wire.latencyMs(), tell);
      else {
        let told = false;
        const once = () => {
          if (!told) tell();
          told = true;
        };
        this.wire.carry("control", { from: other.peerId, to: node.peerId }, once);
        this.world.scheduler.after(this.world.random.real(givenUpAfterMs.min, givenUpAfterMs.max), once);
      }
    }
  }
}

const unreachable = (to: string): RingfoldError =>
  new RingfoldError("PEER_UNREACHABLE", `${to} cannot be reached`, { peer: to });
