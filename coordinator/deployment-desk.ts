import { RingfoldError } from "../protocol/errors.ts";
import { limits } from "../protocol/limits.ts";
import type { DeploymentView, DeployRequest } from "../protocol/messages/api.ts";
import { type Placement, placeShards, type Shard, type ShardReport } from "../protocol/messages/serving.ts";
import type { StoreWrite } from "../protocol/ports.ts";
import type { CoordinatorContext } from "./context.ts";
import {
  type DeploymentRecord,
  decidePlacement,
  deploymentState,
  forgetEarlierLives,
  type Host,
  newDeployment,
  recordShardReport,
} from "./decide/placement.ts";
import { cutIntoShards } from "./decide/sharding.ts";
import { collections, padded } from "./state.ts";

/** Agents look for a coordinator that was away at most this far apart, on a busy machine. */
const gatheringMs = 2 * limits.heartbeatTimeoutMs;

/** The shell around `decidePlacement`: keeps every agent's routing table equal to the decided one. */
export class DeploymentDesk {
  readonly #context: CoordinatorContext;
  readonly #deployments: Map<number, DeploymentRecord>;
  /** Grows with every change of any deployment within this term. */
  #tableRevision = 1;
  /** The table revision that each peer has confirmed, in this life of it. */
  readonly #confirmed = new Map<string, { readonly incarnation: string; readonly revision: number }>();
  readonly #sending = new Set<string>();
  readonly #openedAtMs: number;

  constructor(context: CoordinatorContext) {
    this.#context = context;
    this.#openedAtMs = context.clock.nowMs();
    const records = collections.deployments.readAll(context.store);
    // What was ready before a restart still is: agents served on meanwhile.
    this.#deployments = new Map(records.map((record) => [record.deployment, record]));
  }

  views(): DeploymentView[] {
    return [...this.#deployments.values()].map((record) => this.#view(record));
  }

  /**
   * Places a version. What is live under that name stays live until the new deployment is ready, and then makes way.
   * @throws RingfoldError NOT_FOUND | REQUEST_INVALID | INSUFFICIENT_WORKERS
   */
  async deploy(name: string, request: DeployRequest): Promise<DeploymentView> {
    const { versions, events, store } = this.#context;
    const { version, shards, replicas: replicaCount } = request;
    const ranges = cutIntoShards(versions.get(name, version).manifest.model.layers, shards);
    const live = this.#find(name, true);
    if (live?.version === version && live.shards.length === shards && live.replicaCount === replicaCount) {
      return this.#view(live);
    }
    const hosts = this.#hosts();
    if (hosts.length < replicaCount) {
      throw new RingfoldError(
        "INSUFFICIENT_WORKERS",
        `${replicaCount} replicas need as many agents; ${hosts.length} are live`,
        { servers: hosts.length },
      );
    }
    const deployment = (collections.counters.read(store, "deployment") ?? 0) + 1;
    const fresh = newDeployment(
      { deployment, name, version, replicaCount, live: live === undefined },
      ranges,
    );
    const told = `deploys ${name}@${version} as ${shards} shards x ${replicaCount} replicas`;
    const superseded = this.#find(name, false);
    await this.#commit(decidePlacement(fresh, hosts), superseded ? [superseded] : [], [
      collections.counters.put("deployment", deployment),
      ...events.append(`deployment ${name}`, told),
    ]);
    return this.#view(this.#deployments.get(deployment)!);
  }

  /** @throws RingfoldError NOT_FOUND */
  async remove(name: string): Promise<void> {
    const { store, events, changed } = this.#context;
    const gone = [...this.#deployments.values()].filter((record) => record.name === name);
    if (gone.length === 0) throw new RingfoldError("NOT_FOUND", `there is no deployment ${name}`, { name });
    const removals = gone.map(({ deployment }) => collections.deployments.remove(padded(deployment)));
    await store.write([...removals, ...events.append(`deployment ${name}`, "removed")]);
    for (const { deployment } of gone) this.#deployments.delete(deployment);
    this.#tableRevision++;
    changed();
    this.#sendTables();
  }

  async report(from: string, report: ShardReport & { life: string }): Promise<void> {
    const record = this.#deployments.get(report.deployment);
    const present = this.#lifeOf(from);
    if (!record || (present !== undefined && present !== report.life)) return;
    const ready = report.state === "ready";
    const next = recordShardReport(record, {
      ...{ peerId: from, shardIndex: report.shardIndex, ready, life: report.life },
    });
    if (next === record) return;
    const { events, peers } = this.#context;
    const who = peers.get(from)?.hello.name ?? from;
    const told = ready
      ? `shard ${report.shardIndex} is ready on ${who}`
      : `shard ${report.shardIndex} failed on ${who}: ${report.detail}`;
    const subject = `deployment ${report.name}@${report.version}`;
    const writes = events.append(subject, told);
    if (next.live || deploymentState(next).state !== "ready") return this.#commit(next, [], writes);
    const replaced = this.#find(next.name, true);
    const news = replaced ? `takes over from ${replaced.name}@${replaced.version}` : "is live";
    await this.#commit({ ...next, live: true }, replaced ? [replaced] : [], [
      ...writes,
      ...events.append(subject, news),
    ]);
  }

  /** Membership may have changed: replaces lost replicas and brings the tables of all agents up to date. */
  async lookAround(): Promise<void> {
    for (const record of this.#deployments.values()) {
      const present = forgetEarlierLives(record, this.#lifeOf);
      const next = this.#awaitsReturn(record)
        ? present
        : decidePlacement(present, this.#hosts(record.deployment));
      if (next === record) continue;
      const { reason } = deploymentState(next);
      await this.#commit(
        next,
        [],
        this.#context.events.append(`deployment ${record.name}@${record.version}`, `placed anew; ${reason}`),
      );
    }
    this.#sendTables();
  }

  /** Whether a deployment would lose its last ready replica of a shard without this peer, and another can take it. */
  dependsOn(peerId: string): boolean {
    if (this.#hosts().every((host) => host.peerId === peerId)) return false;
    return [...this.#deployments.values()].some(({ shards }) =>
      shards.some(({ replicas }) => {
        const ready = replicas.filter((replica) => replica.ready);
        return ready.length === 1 && ready[0]!.peerId === peerId;
      }),
    );
  }

  /** One write: the new record, the end of those that it replaces, and what people are told. */
  async #commit(
    record: DeploymentRecord,
    replaced: readonly DeploymentRecord[],
    extra: readonly StoreWrite[],
  ): Promise<void> {
    const removals = replaced.map(({ deployment }) => collections.deployments.remove(padded(deployment)));
    await this.#context.store.write([
      collections.deployments.put(padded(record.deployment), record),
      ...removals,
      ...extra,
    ]);
    for (const { deployment } of replaced) this.#deployments.delete(deployment);
    this.#deployments.set(record.deployment, record);
    this.#tableRevision++;
    this.#context.changed();
    this.#sendTables();
  }

  #find(name: string, live: boolean): DeploymentRecord | undefined {
    return [...this.#deployments.values()].find((record) => record.name === name && record.live === live);
  }

  /** Soon after a restart: hosts that have not found their way back yet are not dead. */
  #awaitsReturn({ shards }: DeploymentRecord): boolean {
    const { peers, clock } = this.#context;
    if (clock.nowMs() - this.#openedAtMs > gatheringMs) return false;
    return shards.some(({ replicas }) => replicas.some(({ peerId }) => !peers.get(peerId)));
  }

  /** Live peers that may serve; a leaving one still hosts what it has until its shards stand elsewhere. */
  #hosts(except?: number): Host[] {
    const { peers, clock } = this.#context;
    const nowMs = clock.nowMs();
    const counts = new Map<string, number>();
    for (const record of this.#deployments.values()) {
      if (record.deployment === except) continue;
      for (const { peerId } of record.shards.flatMap(({ replicas }) => replicas)) {
        counts.set(peerId, (counts.get(peerId) ?? 0) + 1);
      }
    }
    return peers
      .all()
      .filter(
        (peer) =>
          peer.connected &&
          !peer.left &&
          !peer.leaving &&
          peer.roles.some((role) => role === "worker" || role === "server"),
      )
      .filter((peer) => peers.state(peer, nowMs) !== "dead")
      .map(({ hello }) => ({ peerId: hello.peerId, shardCount: counts.get(hello.peerId) ?? 0 }));
  }

  #sendTables(): void {
    const { peers } = this.#context;
    for (const { hello, connected, left } of peers.all()) {
      const confirmed = this.#confirmed.get(hello.peerId);
      const current =
        confirmed?.incarnation === hello.incarnation && confirmed.revision === this.#tableRevision;
      if (connected && !left && !current && !this.#sending.has(hello.peerId))
        void this.#sendTable(hello.peerId, hello.incarnation);
    }
  }

  async #sendTable(peerId: string, incarnation: string): Promise<void> {
    const { network, term, log } = this.#context;
    const revision = this.#tableRevision;
    this.#sending.add(peerId);
    try {
      await network.request(peerId, placeShards, { term, revision, placements: this.#placements() });
      this.#confirmed.set(peerId, { incarnation, revision });
    } catch (error) {
      log.debug({ err: error, peer: peerId }, "A routing table did not arrive; it goes again");
    } finally {
      this.#sending.delete(peerId);
    }
    if (this.#confirmed.get(peerId)?.revision === revision && revision !== this.#tableRevision)
      this.#sendTables();
  }

  readonly #lifeOf = (peerId: string): string | undefined =>
    this.#context.peers.get(peerId)?.hello.incarnation;

  /**
   * As people see it: a replica is ready when its peer is here, in the life in which it loaded the shard. Agents are told
   * what stands in the record: soon after a restart of the coordinator, who has not come back yet serves on.
   */
  #view(record: DeploymentRecord): DeploymentView {
    const { peers } = this.#context;
    const shards = record.shards.map((shard) => ({
      ...shard,
      replicas: shard.replicas.map((replica) => ({
        ...replica,
        ready:
          replica.ready &&
          peers.get(replica.peerId)?.connected === true &&
          this.#lifeOf(replica.peerId) === replica.life,
      })),
    }));
    return deploymentView({ ...record, shards });
  }

  #placements(): Placement[] {
    return [...this.#deployments.values()].map(({ replicaCount: _, failures: __, ...placement }) => ({
      ...placement,
      shards: placement.shards.map(withoutLives),
      manifest: this.#context.versions.get(placement.name, placement.version).manifest,
    }));
  }
}

const withoutLives = (shard: DeploymentRecord["shards"][number]): Shard => ({
  ...shard,
  replicas: shard.replicas.map(({ peerId, ready }) => ({ peerId, ready })),
});

function deploymentView(record: DeploymentRecord): DeploymentView {
  const { deployment, name, version, live, replicaCount, revision, shards } = record;
  const { state, reason } = deploymentState(record);
  return {
    deployment,
    name,
    version,
    live,
    shardCount: shards.length,
    replicaCount,
    state,
    reason,
    revision,
    shards: shards.map(withoutLives),
  };
}
