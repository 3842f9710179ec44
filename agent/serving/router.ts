import type { Clock } from "../../protocol/ports.ts";

/** Weight of the newest measurement: the estimate follows a change of load within about ten answers. */
const smoothing = 0.2;
/** An estimate this old counts half, so a replica that was slow once gets another chance. */
const latencyHalfLifeMs = 10_000;
/** Long enough to try the others first, short enough that a restarted peer is back soon. */
const coolDownMs = 2_000;
/** Peers times shards of a large cluster; beyond it the estimate that was touched longest ago is forgotten. */
const estimatesMax = 16_384;

export interface LatencyEstimate {
  readonly latencyMs: number;
  readonly measuredAtMs: number;
}

/** What is known of one replica at the moment of choosing. */
export interface ReplicaState {
  readonly peerId: string;
  /** The shard is loaded in this very agent. */
  readonly local: boolean;
  /** Requests of ours that the peer has not answered. */
  readonly inFlight: number;
  readonly latency: LatencyEstimate | null;
  /** Put aside until then, after a failure. */
  readonly asideUntilMs: number;
}

/**
 * Chooses where a hop goes: no peer that just failed, if there is another; then this agent itself; then the lowest
 * expected wait, latency × (requests in flight + 1). Pure; ties go to the earlier replica.
 * @returns null when there is no replica
 */
export function selectReplica(replicas: readonly ReplicaState[], nowMs: number): ReplicaState | null {
  const inService = replicas.filter(({ asideUntilMs }) => asideUntilMs <= nowMs);
  // All have just failed: the one whose failure is longest ago has the best chance to be back.
  if (inService.length === 0) return least(replicas, ({ asideUntilMs }) => asideUntilMs);
  return (
    inService.find(({ local }) => local) ?? least(inService, (replica) => expectedWaitMs(replica, nowMs))
  );
}

/** An unmeasured replica looks instant, so it is soon measured; a millisecond keeps its queue from being free. */
function expectedWaitMs({ latency, inFlight }: ReplicaState, nowMs: number): number {
  const ageMs = latency === null ? 0 : nowMs - latency.measuredAtMs;
  const latencyMs = latency === null ? 0 : latency.latencyMs * 0.5 ** (ageMs / latencyHalfLifeMs);
  return Math.max(1, latencyMs) * (inFlight + 1);
}

function least<T>(items: readonly T[], score: (item: T) => number): T | null {
  let best: T | null = null;
  for (const item of items) if (best === null || score(item) < score(best)) best = item;
  return best;
}

/** Remembers how replicas answered. Everything in it is an estimate: losing it costs a few slower requests. */
export class Router {
  readonly #clock: Clock;
  readonly #self: string;
  readonly #inFlight = new Map<string, number>();
  readonly #latencies = new Map<string, LatencyEstimate>();
  readonly #asideUntilMs = new Map<string, number>();

  constructor(options: { readonly self: string }, modules: { readonly clock: Clock }) {
    this.#self = options.self;
    this.#clock = modules.clock;
  }

  /** @param shardKey latency is kept a shard, since shards of one peer differ in cost */
  pick(shardKey: string, peerIds: readonly string[]): string | null {
    const replicas = peerIds.map((peerId) => ({
      peerId,
      local: peerId === this.#self,
      inFlight: this.#inFlight.get(peerId) ?? 0,
      latency: this.#latencies.get(`${peerId} ${shardKey}`) ?? null,
      asideUntilMs: this.#asideUntilMs.get(peerId) ?? 0,
    }));
    return selectReplica(replicas, this.#clock.monotonicMs())?.peerId ?? null;
  }

  /** Runs one request to a peer and learns from how it went. */
  async track<T>(peerId: string, shardKey: string, request: () => Promise<T>): Promise<T> {
    const startedAtMs = this.#clock.monotonicMs();
    this.#inFlight.set(peerId, (this.#inFlight.get(peerId) ?? 0) + 1);
    try {
      const answer = await request();
      this.#measured(`${peerId} ${shardKey}`, this.#clock.monotonicMs() - startedAtMs);
      this.#asideUntilMs.delete(peerId);
      return answer;
    } finally {
      const left = (this.#inFlight.get(peerId) ?? 1) - 1;
      if (left === 0) this.#inFlight.delete(peerId);
      else this.#inFlight.set(peerId, left);
    }
  }

  /** The peer failed just now, by a request or by a closed connection: others go first for a while. */
  putAside(peerId: string): void {
    const nowMs = this.#clock.monotonicMs();
    for (const [other, untilMs] of this.#asideUntilMs) if (untilMs <= nowMs) this.#asideUntilMs.delete(other);
    this.#asideUntilMs.set(peerId, nowMs + coolDownMs);
  }

  /** The peer is back: a new connection says so before any request does. */
  takeBack(peerId: string): void {
    this.#asideUntilMs.delete(peerId);
  }

  #measured(estimateKey: string, latencyMs: number): void {
    const before = this.#latencies.get(estimateKey);
    const smoothed =
      before === undefined ? latencyMs : before.latencyMs + smoothing * (latencyMs - before.latencyMs);
    // Deleted first, so that the map stays in order of last use.
    this.#latencies.delete(estimateKey);
    this.#latencies.set(estimateKey, { latencyMs: smoothed, measuredAtMs: this.#clock.monotonicMs() });
    const oldest = this.#latencies.keys().next();
    if (this.#latencies.size > estimatesMax && !oldest.done) this.#latencies.delete(oldest.value);
  }
}
