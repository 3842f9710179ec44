import { RingfoldError } from "../protocol/errors.ts";
import { shortPeer } from "../protocol/ids.ts";
import { limits } from "../protocol/limits.ts";
import type { DeploymentView } from "../protocol/messages/api.ts";
import { type Placement, placeShards, type Shard, type ShardReport } from "../protocol/messages/serving.ts";
import type { StoreWrite } from "../protocol/ports.ts";
import type { CoordinatorContext } from "./context.ts";
import { type CandidateAction, changeCandidate } from "./decide/candidate.ts";
import type { Decision } from "./decide/decision.ts";
import {
  cutForServing,
  type DeploymentChange,
  type DeploymentDecision,
  type DeploymentEvent,
  type DeploymentWorld,
  type DeployOrder,
  decideDeployment,
  dependsOn,
  findCandidate,
  findDeployment,
} from "./decide/deployment.ts";
import { type DeploymentRecord, deploymentState } from "./decide/placement.ts";
import { servedBy, vouchedContent } from "./decide/version.ts";
import { isDraining } from "./peers.ts";
import { collections, padded } from "./state.ts";

const operator = { kind: "operator" } as const;

/** The shell around `decideDeployment`: keeps every agent's routing table equal to the decided one. */
export class DeploymentDesk {
  readonly #context: CoordinatorContext;
  readonly #deployments: Map<number, DeploymentRecord>;
  /** Grows with every change of any deployment within this term. */
  #tableRevision = 1;
  /** The table revision that each peer has confirmed, in this life of it. */
  readonly #confirmed = new Map<string, { readonly incarnation: string; readonly revision: number }>();
  readonly #sending = new Set<string>();
  /** Which connections and which table those were that everybody had confirmed. */
  #allConfirmed = "";

  constructor(context: CoordinatorContext) {
    this.#context = context;
    const records = collections.deployments.readAll(context.store);
    // What was ready before a restart still is: agents served on meanwhile.
    this.#deployments = new Map(records.map((record) => [record.deployment, record]));
  }

  views(): DeploymentView[] {
    return [...this.#deployments.values()].map((record) => this.#view(record));
  }

  /** The live one of a name, else the one that is about to be. @throws RingfoldError NOT_FOUND */
  view(name: string): DeploymentView {
    const found =
      findDeployment(this.#deployments, name, true) ?? findDeployment(this.#deployments, name, false);
    if (found) return this.#view(found);
    throw new RingfoldError("NOT_FOUND", `nothing is served as ${name}`, { name });
  }

  /**
   * Another one after each order of an operator, and when a rollout begins or is over; which replicas are ready by now is no part
   * of it. Undefined where nothing is served.
   */
  revision(name: string): string | undefined {
    const numbers = [...this.#deployments.values()]
      .filter((record) => record.name === name)
      .map(({ deployment }) => deployment);
    if (numbers.length === 0) return undefined;
    return `${Math.max(...numbers)}${findCandidate(this.#deployments, name) ? "-rollout" : ""}`;
  }

  /**
   * Places a version. What is live under that name stays live until the new deployment is ready, and then makes way.
   * @throws RingfoldError NOT_FOUND | REQUEST_INVALID | INSUFFICIENT_WORKERS | CONFLICT
   */
  async deploy(name: string, request: DeployOrder): Promise<DeploymentView> {
    const { versions, clock } = this.#context;
    const version = versions.get(name, request.version);
    const ranges = cutForServing(version, request.shards);
    const deployment = this.nextNumber();
    const served = servedBy(version, deployment, clock.nowMs());
    await this.#handle(
      { kind: "requested", deployment, name, request, ranges },
      { who: operator, event: { kind: "deployment-requested", name, ...request } },
      ({ put }) =>
        put.length > 0 ? [collections.counters.put("deployment", deployment), versions.write(served)] : [],
    );
    if (this.#deployments.has(deployment)) versions.commit(served);
    const wanted =
      findDeployment(this.#deployments, name, false) ?? findDeployment(this.#deployments, name, true);
    return this.#view(wanted!);
  }

  /** Of the next deployment; none has had it before. */
  nextNumber(): number {
    return (collections.counters.read(this.#context.store, "deployment") ?? 0) + 1;
  }

  find(deployment: number): DeploymentRecord | undefined {
    return this.#deployments.get(deployment);
  }

  /** What answers under a name, and what is about to replace it by itself. */
  standing(name: string): Record<"live" | "pending", DeploymentRecord | undefined> {
    const find = (live: boolean) => findDeployment(this.#deployments, name, live);
    return { live: find(true), pending: find(false) };
  }

  /**
   * Does to a candidate what its rollout has decided, in one write with that.
   * @throws RingfoldError INSUFFICIENT_WORKERS
   */
  async changeCandidate(
    action: CandidateAction,
    decision: Decision,
    writes: readonly StoreWrite[],
  ): Promise<void> {
    await this.#commit(changeCandidate(this.#deployments, action, this.#world()), decision, writes);
  }

  /** @throws RingfoldError NOT_FOUND */
  async remove(name: string): Promise<void> {
    const event = { kind: "deployment-removed", name } as const;
    await this.#handle({ kind: "removed", name }, { who: operator, event });
  }

  async report(from: string, report: ShardReport & { life: string }): Promise<void> {
    const { deployment, shardIndex, state, detail } = report;
    const event = { kind: "shard-reported", deployment, shardIndex, state, detail } as const;
    const who = { kind: "peer", peerId: from, name: this.#nameOf(from) } as const;
    await this.#handle({ kind: "reported", from, report }, { who, event });
  }

  /** Membership may have changed: replaces lost replicas and brings the tables of all agents up to date. */
  async lookAround(): Promise<void> {
    let world: DeploymentWorld | undefined;
    for (const deployment of this.#deployments.keys()) {
      world ??= this.#world(); // of a thousand agents, once for all deployments
      const event = { kind: "deployment-looked-at", deployment } as const;
      const told = { who: { kind: "coordinator" }, event } as const;
      const look = () => this.#handle({ kind: "tick", deployment }, told, undefined, world);
      await this.#context.apart.run(`deployment ${deployment}`, look);
    }
    this.#sendTables();
  }

  /** Which versions of a name are served, or about to be. */
  served(name: string): number[] {
    return [...this.#deployments.values()]
      .filter((record) => record.name === name)
      .map(({ version }) => version);
  }

  dependsOn(peerId: string): boolean {
    return dependsOn(this.#deployments, this.#servers(), peerId);
  }

  /** Event in, pure decision, durable, then act. @param extra is written with it */
  async #handle(
    event: DeploymentEvent,
    told: Pick<Decision, "who" | "event">,
    extra: (decision: DeploymentDecision) => readonly StoreWrite[] = () => [],
    world = this.#world(),
  ): Promise<void> {
    const decision = decideDeployment(this.#deployments, event, world);
    if (!decision) return;
    const { subject, reason } = decision;
    await this.#commit(decision, { ...told, subject, reason, isNews: true }, extra(decision));
  }

  /** Durable, then visible to the agents. */
  async #commit({ put, removed }: DeploymentChange, decision: Decision, writes: readonly StoreWrite[]) {
    await this.#context.decisions.commit(decision, [
      ...put.map((record) => collections.deployments.put(padded(record.deployment), record)),
      ...removed.map(({ deployment }) => collections.deployments.remove(padded(deployment))),
      ...writes,
    ]);
    for (const { deployment } of removed) this.#deployments.delete(deployment);
    for (const record of put) this.#deployments.set(record.deployment, record);
    this.#tableRevision++;
    this.#context.changed();
    this.#sendTables();
  }

  #world(): DeploymentWorld {
    const { peers, time } = this.#context;
    const gathering = time.sinceStartMs() <= limits.gatheringMs;
    const isFlapping = (peerId: string) => peers.isFlapping(peerId);
    const mayReturn = (peerId: string) => {
      const peer = peers.get(peerId);
      return peer ? peers.isExcused(peer) : gathering;
    };
    return { servers: this.#servers(), isFlapping, lifeOf: this.#lifeOf, nameOf: this.#nameOf, mayReturn };
  }

  /** Live peers that may serve; a leaving one still hosts what it has until its shards stand elsewhere. */
  #servers(): string[] {
    const { peers } = this.#context;
    return peers
      .all()
      .filter(
        (peer) =>
          peer.connected &&
          !peer.left &&
          !isDraining(peer) &&
          peer.roles.some((role) => role === "worker" || role === "server"),
      )
      .filter((peer) => peers.state(peer) !== "dead")
      .map(({ hello }) => hello.peerId);
  }

  #sendTables(): void {
    const { peers } = this.#context;
    const seen = `${peers.connections} ${this.#tableRevision}`;
    if (seen === this.#allConfirmed) return;
    let lacking = 0;
    for (const { hello, connected, left } of peers.all()) {
      const confirmed = this.#confirmed.get(hello.peerId);
      const current =
        confirmed?.incarnation === hello.incarnation && confirmed.revision === this.#tableRevision;
      if (!connected || left || current) continue;
      lacking++;
      if (!this.#sending.has(hello.peerId)) void this.#sendTable(hello.peerId, hello.incarnation);
    }
    if (lacking === 0) this.#allConfirmed = seen;
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

  readonly #nameOf = (peerId: string): string =>
    this.#context.peers.get(peerId)?.hello.name ?? shortPeer(peerId);

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
    return [...this.#deployments.values()].map(({ replicaCount: _, failures: __, ...placement }) => {
      const record = this.#context.versions.get(placement.name, placement.version);
      return { ...placement, shards: placement.shards.map(withoutLives), ...vouchedContent(record) };
    });
  }
}

const withoutLives = (shard: DeploymentRecord["shards"][number]): Shard => ({
  ...shard,
  replicas: shard.replicas.map(({ peerId, ready }) => ({ peerId, ready })),
});

function deploymentView(record: DeploymentRecord): DeploymentView {
  const { deployment, name, version, live, weight = null, replicaCount, revision, shards } = record;
  const { state, reason } = deploymentState(record);
  return {
    deployment,
    name,
    version,
    live,
    weight,
    shardCount: shards.length,
    replicaCount,
    state,
    reason,
    revision,
    shards: shards.map(withoutLives),
  };
}
