import { z } from "zod";
import { nameSchema } from "../../protocol/ids.ts";
import type { LayerRange } from "../../protocol/layer-cut.ts";
import type { DeploymentView } from "../../protocol/messages/api.ts";
import { shardSchema } from "../../protocol/messages/serving.ts";

/** What the coordinator knows of a deployment; persisted whole with each decision. */
export const deploymentRecordSchema = z.object({
  /** Never used again, so that an answer of an earlier deployment is never taken for one of this. */
  deployment: z.number().int().positive(),
  name: nameSchema,
  version: z.number().int().positive(),
  replicaCount: z.number().int().positive(),
  revision: z.number().int().positive(),
  shards: z.array(
    shardSchema.extend({
      replicas: z.array(
        shardSchema.shape.replicas.element.extend({
          /** The life of the peer in which it loaded the shard; the next one begins with nothing loaded. */
          life: z.string().optional(),
        }),
      ),
    }),
  ),
  /** Peers that could not load a shard, while they live. */
  failures: z.array(z.object({ shardIndex: z.number().int().nonnegative(), peerId: z.string() })).default([]),
  /** Requests go to the live deployment of a name; another one of that name is about to replace it, or a candidate. */
  live: z.boolean(),
  /** Of a candidate in a rollout: percent of the requests that go to it. It becomes live by decision of that rollout alone. */
  weight: z.number().int().min(0).max(100).optional(),
});
export type DeploymentRecord = z.infer<typeof deploymentRecordSchema>;
type Shard = DeploymentRecord["shards"][number];

export function newDeployment(
  of: Pick<DeploymentRecord, "deployment" | "name" | "version" | "replicaCount" | "live" | "weight">,
  ranges: readonly LayerRange[],
): DeploymentRecord {
  return {
    ...of,
    revision: 1,
    failures: [],
    shards: ranges.map((range, shardIndex) => ({ shardIndex, ...range, replicas: [] })),
  };
}

/** A peer that may host shards, and how many it hosts already, over all deployments. */
export interface Host {
  readonly peerId: string;
  readonly shardCount: number;
  /** It comes and goes. */
  readonly flapping: boolean;
}

/**
 * Gives every shard its replicas on distinct live peers: keeps what stands, drops the dead, lets a replica that failed to
 * load make way where another peer is free, fills up on the least loaded (first those that do not come and go, and those without
 * a shard of this deployment, so that one death costs one replica). Returns the same record when nothing changes.
 */
export function decidePlacement(record: DeploymentRecord, hosts: readonly Host[]): DeploymentRecord {
  const live = new Set(hosts.map(({ peerId }) => peerId));
  const failures = record.failures.filter(({ peerId }) => live.has(peerId));
  const hasFailed = (shardIndex: number, peerId: string) =>
    failures.some((failure) => failure.shardIndex === shardIndex && failure.peerId === peerId);
  const shards: Shard[] = record.shards.map((shard) => ({
    ...shard,
    replicas: shard.replicas.filter(({ peerId }) => live.has(peerId)),
  }));
  const placed = new Map(hosts.map(({ peerId, shardCount }) => [peerId, shardCount]));
  const holdsOurs = (peerId: string) =>
    shards.some(({ replicas }) => replicas.some((replica) => replica.peerId === peerId));
  const freeFor = ({ shardIndex, replicas }: Shard): Host[] =>
    hosts
      .filter(({ peerId }) => !replicas.some((replica) => replica.peerId === peerId))
      .toSorted(
        (a, b) =>
          Number(hasFailed(shardIndex, a.peerId)) - Number(hasFailed(shardIndex, b.peerId)) ||
          Number(a.flapping) - Number(b.flapping) ||
          Number(holdsOurs(a.peerId)) - Number(holdsOurs(b.peerId)) ||
          placed.get(a.peerId)! - placed.get(b.peerId)! ||
          (a.peerId < b.peerId ? -1 : 1),
      );
  for (const shard of neediestFirst(shards)) {
    const others = freeFor(shard).filter(({ peerId }) => !hasFailed(shard.shardIndex, peerId)).length;
    const failed = shard.replicas.filter(
      ({ peerId, ready }) => !ready && hasFailed(shard.shardIndex, peerId),
    );
    const leaving = new Set(failed.slice(0, others));
    shard.replicas = shard.replicas.filter((replica) => !leaving.has(replica));
    while (shard.replicas.length < record.replicaCount) {
      const [chosen] = freeFor(shard);
      if (!chosen) break;
      shard.replicas.push({ peerId: chosen.peerId, ready: false });
      placed.set(chosen.peerId, placed.get(chosen.peerId)! + 1);
    }
  }
  const changed = JSON.stringify(shards) !== JSON.stringify(record.shards);
  return changed ? { ...record, shards, failures, revision: record.revision + 1 } : record;
}

/**
 * Takes readiness back from replicas on peers that are known to live another life now: they have yet to load the shard.
 * @param lifeOf the present life of a peer; undefined where it is not known, and what was true stays so
 */
export function forgetEarlierLives(
  record: DeploymentRecord,
  lifeOf: (peerId: string) => string | undefined,
): DeploymentRecord {
  const isPast = ({ peerId, ready, life }: Shard["replicas"][number]) => {
    const present = lifeOf(peerId);
    return ready && present !== undefined && present !== life;
  };
  if (!record.shards.some(({ replicas }) => replicas.some(isPast))) return record;
  const shards = record.shards.map((shard) => ({
    ...shard,
    replicas: shard.replicas.map((replica) =>
      isPast(replica) ? { peerId: replica.peerId, ready: false } : replica,
    ),
  }));
  return { ...record, shards, revision: record.revision + 1 };
}

/** Marks one replica ready, or failed: the next placement prefers other peers for that shard. */
export function recordShardReport(
  record: DeploymentRecord,
  report: {
    readonly peerId: string;
    readonly shardIndex: number;
    readonly ready: boolean;
    readonly life: string;
  },
): DeploymentRecord {
  const { peerId, shardIndex, ready, life } = report;
  const replica = record.shards[shardIndex]?.replicas.find((hosted) => hosted.peerId === peerId);
  if (!replica) return record;
  const isThis = (failure: { peerId: string; shardIndex: number }) =>
    failure.peerId === peerId && failure.shardIndex === shardIndex;
  const wasFailed = record.failures.some(isThis);
  if (replica.ready === ready && (!ready || replica.life === life) && wasFailed !== ready) return record;
  const failures = [
    ...record.failures.filter((failure) => !isThis(failure)),
    ...(ready ? [] : [{ peerId, shardIndex }]),
  ];
  const shards = record.shards.map((shard) =>
    shard.shardIndex === shardIndex
      ? {
          ...shard,
          replicas: shard.replicas.map((other) =>
            other === replica ? { peerId, ready, ...(ready && { life }) } : other,
          ),
        }
      : shard,
  );
  return { ...record, shards, failures, revision: record.revision + 1 };
}

export function deploymentState(record: DeploymentRecord): Pick<DeploymentView, "state" | "reason"> {
  const ready = record.shards.map(({ replicas }) => replicas.filter((replica) => replica.ready).length);
  const present = ready.reduce((sum, count) => sum + count, 0);
  const wanted = record.shards.length * record.replicaCount;
  const reason = `${present} of ${wanted} replicas are ready`;
  if (present === wanted) return { state: "ready", reason };
  if (ready.every((count) => count > 0)) return { state: "degraded", reason };
  const loading = record.shards.every(({ replicas }) => replicas.length > 0);
  return { state: loading ? "loading" : "unavailable", reason };
}

const neediestFirst = (shards: readonly Shard[]): Shard[] =>
  [...shards].sort((a, b) => a.replicas.length - b.replicas.length || a.shardIndex - b.shardIndex);
