import { stageCountOf } from "../../protocol/job-spec.ts";
import { limits } from "../../protocol/limits.ts";
import type { LinkCost } from "../../protocol/link-model.ts";
import type { GenerationPlan, TrainingPoint } from "../../protocol/messages/job.ts";
import { type Way, wayOf } from "./exchange.ts";
import { newestHeld } from "./held.ts";
import { leftOutText } from "./job-failures.ts";
import type { HeldRecord, JobRecord, Member } from "./job-record.ts";
import { canFetchStages, planStages } from "./stages.ts";

/** What was measured of the link between two peers, if anything. */
export type LinkLookup = (from: string, to: string) => LinkCost | undefined;

/** What is known of peers beside what they have told the job. */
export interface QuorumFacts {
  /** With one of them unknown the order is not touched. */
  readonly links?: LinkLookup | undefined;
  /** Whether others can read what lies on its disk. */
  readonly isInReach?: (peerId: string) => boolean;
}

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
  facts: QuorumFacts = {},
): Quorum {
  const { min, max } = job.spec.workers;
  if (candidates.length < min) {
    const missing = min - candidates.length;
    return {
      plan: null,
      reason: `waits for ${missing} more worker${missing === 1 ? "" : "s"}: ${candidates.length} of ${min} present${leftOutText(job)}`,
    };
  }
  const { resumeFrom } = job;
  const onDisk = stageCountOf(job.spec) === undefined ? wholeOnDisk(job, facts) : undefined;
  const isHeld = (step: number) =>
    canFetchStages(job, step) ||
    candidates.some(({ point }) => point!.step >= step) ||
    (onDisk !== undefined && onDisk.point.step >= step);
  if (resumeFrom && !isHeld(resumeFrom.step)) {
    const reason = `waits for a worker that holds the checkpoint of step ${resumeFrom.step}`;
    return { plan: null, reason };
  }
  const previous = job.plan?.ranks.map(({ peerId }) => peerId) ?? [];
  // A member whose trainer is a new one knows nothing of that generation: the silent may have its steps.
  const ended = candidates.filter(({ phase }) => phase === "ended").map(({ peerId }) => peerId);
  const survivors = previous.filter((peerId) => ended.includes(peerId));
  const possiblyAlive = survivors.length + silent.length;
  if (previous.length > 0 && survivors.length * 2 <= possiblyAlive && silent.length > 0) {
    return {
      plan: null,
      reason: `waits for a majority: ${survivors.length} of ${possiblyAlive} members that may be alive have answered`,
    };
  }
  // Ranks that were still healing have none of that generation's steps.
  const began = job.plan?.start.step ?? 0;
  if (silent.length > 0 && candidates.every(({ point }) => point!.step < began)) {
    return {
      plan: null,
      reason: `waits for a rank that has step ${began}: ${silent.length} that may be alive ${silent.length === 1 ? "has" : "have"} not answered`,
    };
  }
  const changed = job.changes.length > 0 ? job.changes.join(", ") : undefined;
  const generation = (job.plan?.generation ?? 0) + 1;
  const changes = changed ?? (generation === 1 ? "all workers are ready" : "resumed");
  const { transport } = job.spec;
  const stages = stageCountOf(job.spec);
  const common = { jobId: job.id, generation, transport };
  if (stages !== undefined) {
    const { plan, reason: who } = planStages(
      { job, stages },
      inRingOrder(candidates, previous),
      silent.length > 0,
    );
    const reason = plan ? `${changes}; ${who}` : who;
    const way = { algorithm: "ring", predictedCommunicationMs: null } as const;
    return { reason, plan: plan && { ...common, ...plan, ...way, reason } };
  }
  const chosen = inRingOrder(candidates, previous).slice(0, Math.min(max, limits.worldSizeMax));
  const { order, ...way } = byLinks(chosen, facts.links, job);
  const byId = new Map(chosen.map((member) => [member.peerId, member]));
  const members = order.map((peerId) => byId.get(peerId)!);
  const { start, source, checkpoint } = startingPoint(members, onDisk);
  const heals = ({ point }: Member) => point!.step !== start.step || point!.hash !== start.hash;
  const isTotalLoss = checkpoint !== undefined || (previous.length > 0 && survivors.length === 0);
  const who = `${members.length} worker${members.length === 1 ? "" : "s"} from step ${start.step}`;
  const reason = `${changes}; ${who}${checkpoint === undefined ? "" : ", which another agent has on its disk"}`;
  return {
    reason,
    plan: {
      ...common,
      ranks: members.map((member, rank) => {
        const { peerId, host, port, statePort } = member;
        return { rank, peerId, host, port, statePort, heals: heals(member) };
      }),
      ...{ start, source },
      ...(isTotalLoss && members.some(heals) ? { healsFirst: true } : {}),
      ...(checkpoint === undefined ? {} : { checkpoint }),
      ...way,
      reason,
    },
  };
}

/** The newest checkpoint of a job without stages that can be read now. One that is out of reach is not waited for. */
function wholeOnDisk(
  { held, checkpoints }: JobRecord,
  { isInReach = () => true }: QuorumFacts,
): HeldRecord | undefined {
  const readable = held.filter(({ peers }) => peers.some(isInReach));
  return newestHeld({ held: readable, checkpoints }, [null])?.parts[0];
}

/** Survivors keep their order, and so their neighbours; newcomers follow by peer id, so that the order is a function of the set. */
function inRingOrder(candidates: readonly Member[], previous: readonly string[]): Member[] {
  const place = (member: Member) => {
    const index = previous.indexOf(member.peerId);
    return index === -1 ? previous.length : index;
  };
  return [...candidates].sort((a, b) => place(a) - place(b) || (a.peerId < b.peerId ? -1 : 1));
}

/** Takes another order, and another way of summing, when the measured links say that it is worth it. */
function byLinks(
  members: readonly Member[],
  links: LinkLookup = () => undefined,
  { spec, model }: JobRecord,
): Way {
  const ids = members.map(({ peerId }) => peerId);
  const known = (from: string, to: string): LinkCost => links(from, to)!;
  const areKnown = ids.every((from) => ids.every((to) => from === to || links(from, to)));
  return wayOf(spec, {
    ids,
    links: areKnown ? known : undefined,
    parameterCount: model?.parameterCount ?? 0,
  });
}

/**
 * The most advanced point; among different states at one step the one that most members have, then the lowest rank's. Where the disk
 * of somebody else has a later one, that.
 */
function startingPoint(
  members: readonly Member[],
  onDisk: HeldRecord | undefined,
): { readonly start: TrainingPoint; readonly source: string; readonly checkpoint?: string } {
  const points = members.map(({ point }) => point!);
  const step = Math.max(...points.map((point) => point.step));
  if (onDisk && onDisk.point.step > step)
    return { start: onDisk.point, source: members[0]!.peerId, checkpoint: onDisk.artefact };
  const advanced = members.filter(({ point }) => point!.step === step);
  const votes = (hash: string) => advanced.filter(({ point }) => point!.hash === hash).length;
  const best = advanced.reduce((leader, member) =>
    votes(member.point!.hash) > votes(leader.point!.hash) ? member : leader,
  );
  return { start: best.point!, source: best.peerId };
}
