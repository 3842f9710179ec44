import { z } from "zod";
import { nameSchema } from "../../protocol/ids.ts";
import type { DeploymentView } from "../../protocol/messages/api.ts";
import { type Shard, shardSchema } from "../../protocol/messages/serving.ts";
import type { LayerRange } from "./sharding.ts";

/** What the coordinator knows of a deployment; persisted whole with each decision. */
export const deploymentRecordSchema = z.object({
  /** Never used again, so that an answer of an earlier deployment is never taken for one of this. */
  deployment: z.number().int().positive(),
  name: nameSchema,
  version: z.number().int().positive(),
  replicaCount: z.number().int().positive(),
  revision: z.number().int().positive(),
  shards: z.array(shardSchema),
  /** Requests go to the live deployment of a name; another one of that name is about to replace it. */
  live: z.boolean(),
});
export type DeploymentRecord = z.infer<typeof deploymentRecordSchema>;

export function newDeployment(
  of: Pick<DeploymentRecord, "deployment" | "name" | "version" | "replicaCount" | "live">,
  ranges: readonly LayerRange[],
): DeploymentRecord {
  return {
    ...of,
    revision: 1,
    shards: ranges.map((range, shardIndex) => ({ shardIndex, ...range, replicas: [] })),
  };
}

/** A peer that may host shards, and how many it hosts already, over all deployments. */
export interface Host {
  readonly peerId: string;
  readonly shardCount: number;
}

/**
 * Gives every shard its replicas on distinct live peers: keeps what stands, drops the dead, fills up on the least loaded
 * (first those without a shard of this deployment, so that one death costs one replica). Returns the same record when
 * nothing changes.
 */
export function decidePlacement(record: DeploymentRecord, hosts: readonly Host[]): DeploymentRecord {
  const live = new Set(hosts.map(({ peerId }) => peerId));
  const shards: Shard[] = record.shards.map((shard) => ({
    ...shard,
    replicas: shard.replicas.filter(({ peerId }) => live.has(peerId)),
  }));
  const placed = new Map(hosts.map(({ peerId, shardCount }) => [peerId, shardCount]));
  const holdsOurs = (peerId: string) =>
    shards.some(({ replicas }) => replicas.some((replica) => replica.peerId === peerId));
  for (const shard of neediestFirst(shards)) {
    while (shard.replicas.length < record.replicaCount) {
      const free = hosts.filter(({ peerId }) => !shard.replicas.some((replica) => replica.peerId === peerId));
      const [chosen] = free.sort(
        (a, b) =>
          Number(holdsOurs(a.peerId)) - Number(holdsOurs(b.peerId)) ||
          placed.get(a.peerId)! - placed.get(b.peerId)! ||
          (a.peerId < b.peerId ? -1 : 1),
      );
      if (!chosen) break;
      shard.replicas.push({ peerId: chosen.peerId, ready: false });
      placed.set(chosen.peerId, placed.get(chosen.peerId)! + 1);
    }
  }
  const changed = JSON.stringify(shards) !== JSON.stringify(record.shards);
  return changed ? { ...record, shards, revision: record.revision + 1 } : record;
}

/** Marks one replica ready, or takes it away after a failure so that another peer is tried. */
export function recordShardReport(
  record: DeploymentRecord,
  report: { readonly peerId: string; readonly shardIndex: number; readonly ready: boolean },
): DeploymentRecord {
  let changed = false;
  const shards = record.shards.map((shard) => {
    const replica = shard.replicas.find(({ peerId }) => peerId === report.peerId);
    if (shard.shardIndex !== report.shardIndex || !replica || replica.ready === report.ready) return shard;
    changed = true;
    const replicas = shard.replicas.map((other) =>
      other === replica ? { ...other, ready: report.ready } : other,
    );
    return { ...shard, replicas };
  });
  return changed ? { ...record, shards, revision: record.revision + 1 } : record;
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
