import { limits } from "../../protocol/limits.ts";
import type { GenerationPlan, TrainingPoint } from "../../protocol/messages/job.ts";
import type { JobRecord, Member } from "./job-record.ts";

export interface Quorum {
  /** Null when there is none. */
  readonly plan: GenerationPlan | null;
  /** Why there is a plan, or what it waits for. */
  readonly reason: string;
}

/**
 * The next generation of a job among `candidates`, the members that are alive and idle.
 *
 * A new generation needs `workers.min` members and more than half of the previous generation's members that are not
 * known to be dead: a silent one may be training on the other side of a partition.
 *
 * @param silent members of the previous generation of whom nothing is known: neither dead nor reporting
 */
export function computeQuorum(
  job: JobRecord,
  candidates: readonly Member[],
  silent: readonly string[],
): Quorum {
  const { min, max } = job.spec.workers;
  if (candidates.length < min) {
    const missing = min - candidates.length;
    return {
      plan: null,
      reason: `waits for ${missing} more worker${missing === 1 ? "" : "s"}: ${candidates.length} of ${min} present`,
    };
  }
  const previous = job.plan?.ranks.map(({ peerId }) => peerId) ?? [];
  const survivors = previous.filter((peerId) => candidates.some((candidate) => candidate.peerId === peerId));
  const possiblyAlive = survivors.length + silent.length;
  if (previous.length > 0 && survivors.length * 2 <= possiblyAlive && silent.length > 0) {
    return {
      plan: null,
      reason: `waits for a majority: ${survivors.length} of ${possiblyAlive} members that may be alive have answered`,
    };
  }
  const members = inRingOrder(candidates, previous).slice(0, Math.min(max, limits.worldSizeMax));
  const { start, source } = startingPoint(members);
  const generation = (job.plan?.generation ?? 0) + 1;
  const changes =
    job.changes.length > 0 ? job.changes.join(", ") : generation === 1 ? "all workers are ready" : "resumed";
  const reason = `${changes}; ${members.length} worker${members.length === 1 ? "" : "s"} from step ${start.step}`;
  return {
    reason,
    plan: {
      jobId: job.id,
      generation,
      ranks: members.map(({ peerId, host, port }, rank) => ({ rank, peerId, host, port })),
      start,
      source,
      transport: job.spec.transport,
      reason,
    },
  };
}

/** Survivors keep their order, and so their neighbours; newcomers follow by peer id, so that the order is a function of the set. */
function inRingOrder(candidates: readonly Member[], previous: readonly string[]): Member[] {
  const place = (member: Member) => {
    const index = previous.indexOf(member.peerId);
    return index === -1 ? previous.length : index;
  };
  return [...candidates].sort((a, b) => place(a) - place(b) || (a.peerId < b.peerId ? -1 : 1));
}

/** The most advanced point; among different states at one step the one that most members have, then the lowest rank's. */
function startingPoint(members: readonly Member[]): { start: TrainingPoint; source: string } {
  const points = members.map(({ point }) => point!);
  const step = Math.max(...points.map((point) => point.step));
  const advanced = members.filter(({ point }) => point!.step === step);
  const votes = (hash: string) => advanced.filter(({ point }) => point!.hash === hash).length;
  const best = advanced.reduce((leader, member) =>
    votes(member.point!.hash) > votes(leader.point!.hash) ? member : leader,
  );
  return { start: best.point!, source: best.peerId };
}
