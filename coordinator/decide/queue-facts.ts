import { z } from "zod";
import { nameSchema } from "../../protocol/ids.ts";
import { type JobSpec, stageCountOf } from "../../protocol/job-spec.ts";
import { barredFrom, leftOutText } from "./job-failures.ts";
import type { JobRecord } from "./job-record.ts";
import { stateToFetch } from "./job-trial.ts";
import { type AgentNeeds, type AgentOffer, needsOf } from "./needs.ts";
import { canFetchStages } from "./stages.ts";

/** What the queue is decided from: jobs, agents and quotas, as far as they matter to it. */

/** A member that works, or could: present, with the role of a worker, and not on its way out. */
export interface QueueAgent extends AgentOffer {
  readonly peerId: string;
  /** It works for no job, and nothing speaks against giving it to one. */
  readonly idle: boolean;
  readonly flapping: boolean;
}

export interface QueueJob {
  readonly id: string;
  /** Of its submission. */
  readonly number: number;
  readonly priority: number;
  readonly project: string;
  /** It would take agents; else it only keeps those that it has. */
  readonly isOpen: boolean;
  /** Its state lives with its members: it keeps them even where they are too few to go on. */
  readonly isUnderWay: boolean;
  readonly members: readonly string[];
  /** Members that it could go on without, those first that are missed least. */
  readonly surplus: readonly string[];
  /** Members on their way to another job. */
  readonly yielding: readonly string[];
  /** It begins with so many agents at once, or not at all. */
  readonly gang: number;
  /** It can use so many, spares among them. */
  readonly most: number;
  readonly needs: AgentNeeds;
  /** Agents on which its trainer failed too often. */
  readonly barred: readonly string[];
  /** The same for people, after what the job waits for. */
  readonly leftOut: string;
  /** Agents that have its state: they are asked first. */
  readonly holders: readonly string[];
  /** It begins only where one of the holders takes part; at this step. */
  readonly fromStep: number | null;
}

export const quotaRecordSchema = z.object({
  project: nameSchema,
  /** The agents that work for its jobs, at most; null: as many as there are. */
  agents: z.number().int().nonnegative().nullable(),
  /** Jobs that agents work for, at most. */
  jobs: z.number().int().nonnegative().nullable(),
});
export type QuotaRecord = z.infer<typeof quotaRecordSchema>;

/** What the queue sees of a job that is not over. */
export function queueJobOf(job: JobRecord): QueueJob {
  const { spec, resumeFrom } = job;
  const members = Object.keys(job.members);
  const canFetch = stateToFetch(job) !== undefined || canFetchStages(job, resumeFrom?.step ?? 0);
  const mustHold = resumeFrom !== null && !canFetch;
  return {
    id: job.id,
    number: Number(/\d+$/.exec(job.id)![0]),
    priority: job.priority,
    project: spec.project,
    isOpen: job.state !== "paused" && job.hold === null && job.result === null,
    isUnderWay: job.plan !== null && resumeFrom === null && members.length > 0,
    members,
    surplus: surplusOf(job),
    yielding: members.filter((peerId) => job.yielding[peerId] !== undefined),
    gang: gangOf(spec),
    most: spec.workers.max + spec.workers.spares,
    needs: needsOf(spec),
    barred: barredFrom(job),
    leftOut: leftOutText(job),
    holders: resumeFrom?.peers ?? [],
    fromStep: mustHold ? resumeFrom.step : null,
  };
}

/** Of a job with stages: as many for each of them. */
function gangOf(spec: JobSpec): number {
  const { min, max } = spec.workers;
  const stages = stageCountOf(spec) ?? 1;
  return Math.min(max, Math.ceil(Math.max(min, stages) / stages) * stages);
}

const byText = (a: string, b: string): number => (a < b ? -1 : 1);

/** Ranks that joined last go first, and before them whoever is no rank. A job in stages needs each of its ranks where it is. */
function surplusOf({ spec, plan, members, yielding }: JobRecord): string[] {
  if (spec.stages !== undefined) return [];
  const steady = Object.keys(members).filter((peerId) => yielding[peerId] === undefined);
  const rankOf = (peerId: string) => plan?.ranks.findIndex((rank) => rank.peerId === peerId) ?? -1;
  const waiting = steady.filter((peerId) => rankOf(peerId) === -1).sort(byText);
  const ranks = steady.filter((peerId) => rankOf(peerId) !== -1).sort((a, b) => rankOf(b) - rankOf(a));
  return [...waiting, ...ranks].slice(0, Math.max(0, steady.length - gangOf(spec)));
}
