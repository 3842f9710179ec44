import { RingfoldError } from "../../protocol/errors.ts";
import { cutIntoShards, type LayerRange } from "../../protocol/layer-cut.ts";
import type { DeployRequest } from "../../protocol/messages/api.ts";
import type { ShardReport } from "../../protocol/messages/serving.ts";
import {
  type DeploymentRecord,
  decidePlacement,
  deploymentState,
  forgetEarlierLives,
  type Host,
  newDeployment,
  recordShardReport,
} from "./placement.ts";
import type { VersionRecord } from "./version.ts";

/** All deployments, by number. */
export type Deployments = ReadonlyMap<number, DeploymentRecord>;

/** What the deciders may know of the machines. */
export interface DeploymentWorld {
  /** Live peers that may serve. */
  readonly servers: readonly string[];
  /** It has come and gone several times lately. */
  readonly isFlapping: (peerId: string) => boolean;
  /** The present life of a peer; undefined where it is not known. */
  readonly lifeOf: (peerId: string) => string | undefined;
  /** For people. */
  readonly nameOf: (peerId: string) => string;
  /** Nothing says that it is dead: after a restart of the coordinator it has not come back yet, or we hear nobody. */
  readonly mayReturn: (peerId: string) => boolean;
}

/** With the number of the version, whatever alias it was asked for by. */
export type DeployOrder = DeployRequest & { readonly version: number };

export type DeploymentEvent =
  | {
      readonly kind: "requested";
      /** The number to give it; never used again. */
      readonly deployment: number;
      readonly name: string;
      readonly request: DeployOrder;
      readonly ranges: readonly LayerRange[];
    }
  | { readonly kind: "removed"; readonly name: string }
  | { readonly kind: "reported"; readonly from: string; readonly report: ShardReport & { life: string } }
  | { readonly kind: "tick"; readonly deployment: number };

export interface DeploymentChange {
  readonly put: readonly DeploymentRecord[];
  readonly removed: readonly DeploymentRecord[];
}
export interface DeploymentDecision extends DeploymentChange {
  readonly subject: string;
  readonly reason: string;
}

/**
 * The life of deployments: (all of them, event, world) -> what changes, and why; undefined when nothing does.
 * @throws RingfoldError NOT_FOUND | INSUFFICIENT_WORKERS | CONFLICT
 */
export function decideDeployment(
  deployments: Deployments,
  event: DeploymentEvent,
  world: DeploymentWorld,
): DeploymentDecision | undefined {
  switch (event.kind) {
    case "requested":
      return decideRequest(deployments, event, world);
    case "removed": {
      const { name } = event;
      const removed = [...deployments.values()].filter((record) => record.name === name);
      if (removed.length === 0)
        throw new RingfoldError("NOT_FOUND", `there is no deployment ${name}`, { name });
      return { put: [], removed, subject: `deployment ${name}`, reason: "removed" };
    }
    case "reported":
      return decideReport(deployments, event, world);
    case "tick":
      return decideTick(deployments, event.deployment, world);
  }
}

/** The one that answers requests, or the one that is about to replace it by itself: no candidate of a rollout. */
export function findDeployment(
  deployments: Deployments,
  name: string,
  live: boolean,
): DeploymentRecord | undefined {
  return [...deployments.values()].find(
    (record) => record.name === name && record.live === live && record.weight === undefined,
  );
}

export const findCandidate = (deployments: Deployments, name: string): DeploymentRecord | undefined =>
  [...deployments.values()].find((record) => record.name === name && record.weight !== undefined);

/** @throws RingfoldError REQUEST_INVALID for what agents cannot serve */
export function cutForServing({ version, manifest }: VersionRecord, shardCount: number): LayerRange[] {
  const { name, model } = manifest;
  if (model.topology.framework !== "torch") return cutIntoShards(model.layers, shardCount);
  const message = `${name}@${version} holds the weights of a PyTorch model, which agents cannot serve`;
  const remedy = "Serve a model that `ringfold train` has trained; load these weights with PyTorch.";
  throw new RingfoldError("REQUEST_INVALID", message, { remedy });
}

/** Whether a deployment would lose its last ready replica of a shard without this peer, and another can take it. */
export function dependsOn(deployments: Deployments, servers: readonly string[], peerId: string): boolean {
  if (servers.every((server) => server === peerId)) return false;
  return [...deployments.values()].some(({ shards }) =>
    shards.some(({ replicas }) => {
      const ready = replicas.filter((replica) => replica.ready);
      return ready.length === 1 && ready[0]!.peerId === peerId;
    }),
  );
}

/** What is live under that name stays live until the new deployment is ready, and then makes way. */
function decideRequest(
  deployments: Deployments,
  { deployment, name, request, ranges }: Extract<DeploymentEvent, { kind: "requested" }>,
  world: DeploymentWorld,
): DeploymentDecision | undefined {
  const { version, shards, replicas: replicaCount } = request;
  const live = findDeployment(deployments, name, true);
  const pending = findDeployment(deployments, name, false);
  const isThis = (record: DeploymentRecord | undefined): record is DeploymentRecord =>
    record?.version === version && record.shards.length === shards && record.replicaCount === replicaCount;
  // What was asked for last is what is wanted: asked for again, nothing changes.
  if (isThis(pending ?? live)) return undefined;
  const candidate = findCandidate(deployments, name);
  if (candidate) {
    throw new RingfoldError("CONFLICT", `${name}@${candidate.version} is being rolled out`, {
      ...{ name, version: candidate.version },
      remedy: `Wait for it, or end it with \`ringfold rollout promote ${name} --full\` or \`abort ${name}\`.`,
    });
  }
  if (pending && isThis(live)) {
    const reason = `stays with ${name}@${version}; ${name}@${pending.version} is given up before it was ready`;
    return { put: [], removed: [pending], subject: `deployment ${name}`, reason };
  }
  const fresh = newDeployment({ deployment, name, version, replicaCount, live: live === undefined }, ranges);
  return {
    put: [placeFirst(deployments, fresh, world)],
    removed: pending ? [pending] : [],
    subject: `deployment ${name}`,
    reason: `deploys ${name}@${version} as ${shards} shards x ${replicaCount} replicas`,
  };
}

/** @throws RingfoldError INSUFFICIENT_WORKERS */
export function placeFirst(
  deployments: Deployments,
  fresh: DeploymentRecord,
  world: DeploymentWorld,
): DeploymentRecord {
  const hosts = hostsOf(deployments, world);
  if (hosts.length >= fresh.replicaCount) return decidePlacement(fresh, hosts);
  throw new RingfoldError(
    "INSUFFICIENT_WORKERS",
    `${fresh.replicaCount} replicas need as many agents; ${hosts.length} are live`,
    { servers: hosts.length },
  );
}

function decideReport(
  deployments: Deployments,
  { from, report }: Extract<DeploymentEvent, { kind: "reported" }>,
  world: DeploymentWorld,
): DeploymentDecision | undefined {
  const record = deployments.get(report.deployment);
  const present = world.lifeOf(from);
  if (!record || (present !== undefined && present !== report.life)) return undefined;
  const ready = report.state === "ready";
  const { shardIndex, life } = report;
  const next = recordShardReport(record, { peerId: from, shardIndex, ready, life });
  if (next === record) return undefined;
  const who = world.nameOf(from);
  const reason = ready
    ? `shard ${shardIndex} is ready on ${who}`
    : `shard ${shardIndex} failed on ${who}: ${report.detail}`;
  const subject = `deployment ${report.name}@${report.version}`;
  if (next.live || next.weight !== undefined || deploymentState(next).state !== "ready")
    return { put: [next], removed: [], subject, reason };
  const replaced = findDeployment(deployments, next.name, true);
  const news = replaced ? `takes over from ${replaced.name}@${replaced.version}` : "is live";
  return {
    ...{ put: [{ ...next, live: true }], removed: replaced ? [replaced] : [], subject },
    reason: `${reason}; ${news}`,
  };
}

/** Membership may have changed: replaces lost replicas. */
function decideTick(
  deployments: Deployments,
  deployment: number,
  world: DeploymentWorld,
): DeploymentDecision | undefined {
  const record = deployments.get(deployment);
  if (!record) return undefined;
  const present = forgetEarlierLives(record, world.lifeOf);
  const next = awaitsReturn(record, world)
    ? present
    : decidePlacement(present, hostsOf(deployments, world, deployment));
  if (next === record) return undefined;
  return {
    ...{ put: [next], removed: [], subject: `deployment ${record.name}@${record.version}` },
    reason: `placed anew; ${deploymentState(next).reason}`,
  };
}

const awaitsReturn = ({ shards }: DeploymentRecord, { mayReturn }: DeploymentWorld): boolean =>
  shards.some(({ replicas }) => replicas.some(({ peerId }) => mayReturn(peerId)));

/** Servers with the shards that they host already, in other deployments than `except`. */
function hostsOf(
  deployments: Deployments,
  { servers, isFlapping }: DeploymentWorld,
  except?: number,
): Host[] {
  const counts = new Map<string, number>();
  for (const record of deployments.values()) {
    if (record.deployment === except) continue;
    for (const { peerId } of record.shards.flatMap(({ replicas }) => replicas))
      counts.set(peerId, (counts.get(peerId) ?? 0) + 1);
  }
  return servers.map((peerId) => ({
    ...{ peerId, shardCount: counts.get(peerId) ?? 0 },
    flapping: isFlapping(peerId),
  }));
}
