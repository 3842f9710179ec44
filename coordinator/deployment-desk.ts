import { RingfoldError } from "../protocol/errors.ts";
import type { DeploymentView, DeployRequest } from "../protocol/messages/api.ts";
import { type Placement, placeShards, type ShardReport } from "../protocol/messages/serving.ts";
import type { CoordinatorContext } from "./context.ts";
import {
  type DeploymentRecord,
  decidePlacement,
  deploymentState,
  type Host,
  newDeployment,
  recordShardReport,
} from "./decide/placement.ts";
import { cutIntoShards } from "./decide/sharding.ts";
import { collections } from "./state.ts";

/** The shell around `decidePlacement`: keeps every agent's routing table equal to the decided one. */
export class DeploymentDesk {
  readonly #context: CoordinatorContext;
  readonly #deployments: Map<string, DeploymentRecord>;
  /** Grows with every change of any deployment within this term. */
  #tableRevision = 1;
  /** The table revision that each peer has confirmed, in this life of it. */
  readonly #confirmed = new Map<string, { readonly incarnation: string; readonly revision: number }>();
  readonly #sending = new Set<string>();

  constructor(context: CoordinatorContext) {
    this.#context = context;
    // After a restart nothing is known to be loaded; agents report again when they get the table.
    this.#deployments = new Map(
      collections.deployments.readAll(context.store).map((record) => [record.name, record]),
    );
  }

  views(): DeploymentView[] {
    return [...this.#deployments.values()].map((record) => ({
      name: record.name,
      version: record.version,
      shardCount: record.shards.length,
      replicaCount: record.replicaCount,
      ...deploymentState(record),
      revision: record.revision,
      shards: record.shards,
    }));
  }

  /** @throws RingfoldError NOT_FOUND | REQUEST_INVALID */
  async deploy(name: string, request: DeployRequest): Promise<DeploymentView> {
    const { versions, events } = this.#context;
    const { manifest } = versions.get(name, request.version);
    const ranges = cutIntoShards(manifest.model.layers, request.shards);
    const servers = this.#hosts(name).length;
    if (servers < request.replicas) {
      throw new RingfoldError(
        "INSUFFICIENT_WORKERS",
        `${request.replicas} replicas need as many agents; ${servers} are live`,
        {
          servers,
        },
      );
    }
    const revision = (this.#deployments.get(name)?.revision ?? 0) + 1;
    const { version, replicas: replicaCount } = request;
    const record = decidePlacement(
      newDeployment({ name, version, replicaCount, revision }, ranges),
      this.#hosts(name),
    );
    const told = `deploys ${name}@${version} as ${request.shards} shards x ${replicaCount} replicas`;
    await this.#commit(record, events.append(`deployment ${name}`, told));
    return this.views().find((view) => view.name === name)!;
  }

  /** @throws RingfoldError NOT_FOUND */
  async remove(name: string): Promise<void> {
    const { store, events, changed } = this.#context;
    if (!this.#deployments.has(name))
      throw new RingfoldError("NOT_FOUND", `there is no deployment ${name}`, { name });
    await store.write([
      collections.deployments.remove(name),
      ...events.append(`deployment ${name}`, "removed"),
    ]);
    this.#deployments.delete(name);
    this.#tableRevision++;
    changed();
    this.#sendTables();
  }

  async report(from: string, report: ShardReport): Promise<void> {
    const record = this.#deployments.get(report.name);
    if (!record || record.version !== report.version) return;
    const ready = report.state === "ready";
    const next = recordShardReport(record, { peerId: from, shardIndex: report.shardIndex, ready });
    if (next === record) return;
    const { events, peers } = this.#context;
    const who = peers.get(from)?.hello.name ?? from;
    const told = ready
      ? `shard ${report.shardIndex} is ready on ${who}`
      : `shard ${report.shardIndex} failed on ${who}: ${report.detail}`;
    await this.#commit(next, events.append(`deployment ${report.name}`, told));
  }

  /** Membership may have changed: replaces lost replicas and brings the tables of all agents up to date. */
  async lookAround(): Promise<void> {
    for (const record of this.#deployments.values()) {
      const next = decidePlacement(record, this.#hosts(record.name));
      if (next === record) continue;
      const { reason } = deploymentState(next);
      await this.#commit(
        next,
        this.#context.events.append(`deployment ${record.name}`, `placed anew; ${reason}`),
      );
    }
    this.#sendTables();
  }

  /** Whether a deployment would lose its last ready replica of a shard without this peer. */
  dependsOn(peerId: string): boolean {
    return [...this.#deployments.values()].some(({ shards }) =>
      shards.some(({ replicas }) => {
        const ready = replicas.filter((replica) => replica.ready);
        return ready.length === 1 && ready[0]!.peerId === peerId;
      }),
    );
  }

  async #commit(
    record: DeploymentRecord,
    events: ReturnType<CoordinatorContext["events"]["append"]>,
  ): Promise<void> {
    await this.#context.store.write([collections.deployments.put(record.name, record), ...events]);
    this.#deployments.set(record.name, record);
    this.#tableRevision++;
    this.#context.changed();
    this.#sendTables();
  }

  /** Live peers that may serve; a leaving one still hosts what it has until its shards stand elsewhere. */
  #hosts(name: string): Host[] {
    const { peers, clock } = this.#context;
    const nowMs = clock.nowMs();
    const counts = new Map<string, number>();
    for (const record of this.#deployments.values()) {
      if (record.name === name) continue;
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

  #placements(): Placement[] {
    return [...this.#deployments.values()].map(({ name, version, revision, shards }) => ({
      name,
      version,
      revision,
      manifest: this.#context.versions.get(name, version).manifest,
      shards,
    }));
  }
}
