import { stageCountOf } from "../../protocol/job-spec.ts";
import { limits } from "../../protocol/limits.ts";
import type { GenerationPlan } from "../../protocol/messages/job.ts";
import { newestHeld } from "./held.ts";
import type { JobRecord, Member } from "./job-record.ts";

/**
 * Jobs whose model is cut by layers into stages: who trains which, and where all begin. Every stage has as many ranks as the
 * one with the fewest members; who is left over is a spare.
 */

/** Where a stage can begin. */
interface StageStart {
  readonly hash: string;
  readonly checkpoint: string | null;
}

/** The stage that a new member is to train: the one that it has a checkpoint of, where that is wanted, else that with the fewest. */
export function stageFor(job: JobRecord, peerId: string): number | null {
  const stages = stageCountOf(job.spec);
  if (stages === undefined) return null;
  const counts = countByStage(stages, Object.values(job.members));
  const fewest = Math.min(...counts);
  const saved = [...job.checkpoints, ...job.held].findLast(
    ({ stage, peers }) => stage !== null && counts[stage] === fewest && peers.includes(peerId),
  );
  return saved?.stage ?? counts.indexOf(fewest);
}

/** Members of a stage of which another one has none: it moves there. */
export function memberToMove(
  job: JobRecord,
): { readonly member: Member; readonly stage: number } | undefined {
  const stages = stageCountOf(job.spec);
  if (stages === undefined) return undefined;
  const members = Object.values(job.members);
  const counts = countByStage(stages, members);
  const stage = counts.indexOf(0);
  if (stage === -1) return undefined;
  const isSpare = ({ phase, stage: own }: Member) =>
    (phase === "ready" || phase === "ended") && own !== null && counts[own]! > 1;
  const member = members.find((each) => isSpare(each) && mayHold(each, { stages, stage }));
  return member && { member, stage };
}

/** Whether this member has room for a stage; one that has not said so is tried. */
export function mayHold(
  { sizes }: Pick<Member, "sizes">,
  { stages, stage }: { readonly stages: number; readonly stage: number },
): boolean {
  const row = sizes?.stageBytes[stages - 1];
  if (!sizes || !row) return true; // it told no more than what is needed until all fit
  const bytes = row[stage] ?? null;
  return bytes !== null && bytes <= sizes.memoryBytes;
}

/** Whether its stages were chosen, so that a worker that is too small for one says nothing of the job. */
export const choseStages = ({ stagesAsked, spec }: JobRecord): boolean =>
  stagesAsked === "auto" && spec.stages !== "auto";

/** Whether every stage has told of a checkpoint of this step, which others can fetch. */
export function canFetchStages({ spec, checkpoints }: JobRecord, step: number): boolean {
  const stages = stageCountOf(spec);
  if (stages === undefined) return false;
  const saved = checkpoints.filter((each) => each.step === step && each.artefact !== null);
  return Array.from({ length: stages }, (_, stage) => stage).every((stage) =>
    saved.some((each) => each.stage === stage),
  );
}

/**
 * A checkpoint that nobody has had for this many tries, which are made ever more slowly, is given up after about half a minute: the
 * agents that had it are gone, perhaps for ever. So may be those before it, of which nobody has said that they are still there.
 */
const triesMax = 10;

/** A rank of the current plan could not get the checkpoint that it was to begin from. */
export function noteMissing(job: JobRecord, artefact: string): void {
  const { generation, start, stages } = job.plan!;
  const before = job.missing?.step === start.step ? job.missing : null;
  if (before?.generation === generation) return; // several ranks say it of one try
  job.missing = { step: start.step, generation, tries: (before?.tries ?? 0) + 1 };
  if (job.missing.tries < triesMax) return;
  job.missing = null;
  job.checkpoints = job.checkpoints.filter(({ step }) => step > start.step);
  job.held = job.held.map((each) => (each.artefact === artefact ? { ...each, lost: true } : each));
  const stage = stages?.findIndex(({ checkpoint }) => checkpoint === artefact) ?? -1;
  const of = stage === -1 ? "" : ` of stage ${stage}`;
  job.changes.push(`nobody has the checkpoint of step ${start.step}${of}`);
}

/** How many copies of the model these members can hold. */
export function replicaCount({ spec }: JobRecord, members: readonly Member[]): number {
  const stages = stageCountOf(spec) ?? 1;
  const most = Math.floor(Math.min(spec.workers.max, limits.worldSizeMax) / stages);
  return Math.min(most, ...countByStage(stages, members));
}

/** The part of a plan that says which stages there are, and who trains them from where. */
type StagePlan = Pick<GenerationPlan, "ranks" | "start" | "source" | "stages">;

/**
 * @param of.stages how many
 * @param candidates idle members, those first that shall be ranks
 * @param isHeld somebody who has not answered may have what these lack
 * @returns the plan, or what it waits for
 */
export function planStages(
  { job, stages }: { readonly job: JobRecord; readonly stages: number },
  candidates: readonly Member[],
  isHeld: boolean,
): { readonly plan: StagePlan; readonly reason: string } | { readonly plan: null; readonly reason: string } {
  const byStage = Array.from({ length: stages }, (_, stage) =>
    candidates.filter((member) => member.stage === stage),
  );
  const replicas = replicaCount(job, candidates);
  if (replicas * stages < Math.max(stages, job.spec.workers.min)) {
    const counts = byStage.map(({ length }) => length);
    const missing = counts.indexOf(Math.min(...counts));
    return { plan: null, reason: `waits for a worker for stage ${missing}: ${counts.join("+")} are present` };
  }
  const newest = Math.max(...candidates.map(({ point }) => point!.step));
  const { step, starts } = commonStart(job, byStage);
  if (step < newest && isHeld) {
    const reason = `waits for those that may have step ${newest} of every stage; else it goes back to step ${step}`;
    return { plan: null, reason };
  }
  const isAt = (start: StageStart) => (member: Member) =>
    member.point!.step === step && member.point!.hash === start.hash;
  const members = byStage.map((of, stage) =>
    of
      .toSorted((a, b) => Number(isAt(starts[stage]!)(b)) - Number(isAt(starts[stage]!)(a)))
      .slice(0, replicas),
  );
  const ranks = members.flatMap((of, stage) =>
    of.map((member, replica) => {
      const { peerId, host, port, statePort } = member;
      const heals = !isAt(starts[stage]!)(member);
      return { rank: stage * replicas + replica, peerId, host, port, statePort, heals };
    }),
  );
  const source = (ranks.find(({ heals }) => !heals) ?? ranks[0]!).peerId;
  const back = step < newest ? `, back from step ${newest}` : "";
  const reason = `${replicas} worker${replicas === 1 ? "" : "s"} for each of ${stages} stages from step ${step}${back}`;
  return { reason, plan: { ranks, start: { step, hash: starts[0]!.hash }, source, stages: starts } };
}

/**
 * The newest step at which every stage can be had: from an idle member, from a checkpoint that was reported, or from the beginning;
 * where a newer state lies whole on disks, that one.
 */
function commonStart(
  job: JobRecord,
  byStage: readonly (readonly Member[])[],
): { readonly step: number; readonly starts: StageStart[] } {
  const current = currentStart(
    job,
    byStage.map((of) => of.filter((member) => isOfCurrentHistory(job, member))),
  );
  const held = newestHeld(job, [...byStage.keys()]);
  if (!held || held.step <= current.step) return current;
  const starts = held.parts.map(({ point, artefact }) => ({ hash: point.hash, checkpoint: artefact }));
  return { step: held.step, starts };
}

/**
 * Whether a member's state is of the history that the job is in: what it found on its disk may be of one that was given up since, and
 * stages of two histories are no model.
 */
function isOfCurrentHistory({ plan }: JobRecord, { point, pointOf, stage }: Member): boolean {
  if (point!.step === 0) return true;
  const start = { step: plan?.start.step, hash: plan?.stages?.[stage ?? 0]?.hash };
  const isAtStart = point!.step === start.step && point!.hash === start.hash;
  return isAtStart || (pointOf !== null && pointOf === plan?.generation);
}

function currentStart(
  job: JobRecord,
  byStage: readonly (readonly Member[])[],
): { readonly step: number; readonly starts: StageStart[] } {
  const steps = [
    ...byStage.flat().map(({ point }) => point!.step),
    ...job.checkpoints.map((checkpoint) => checkpoint.step),
  ];
  for (const step of [...new Set(steps)].sort((a, b) => b - a)) {
    const starts = byStage.map((of, stage) => startAt(job, of, { stage, step }));
    if (starts.every((start) => start !== undefined)) return { step, starts };
  }
  return { step: 0, starts: job.beginnings.map((hash) => ({ hash, checkpoint: null })) };
}

/** The state that most members of a stage have at this step; else that of a checkpoint. */
function startAt(
  job: JobRecord,
  members: readonly Member[],
  { stage, step }: { readonly stage: number; readonly step: number },
): StageStart | undefined {
  const hashes = members.filter(({ point }) => point!.step === step).map(({ point }) => point!.hash);
  const votes = (hash: string) => hashes.filter((other) => other === hash).length;
  const saved = job.checkpoints.find((each) => each.stage === stage && each.step === step);
  const hash = hashes.length > 0 ? hashes.reduce((a, b) => (votes(b) > votes(a) ? b : a)) : saved?.hash;
  if (hash !== undefined) return { hash, checkpoint: saved?.hash === hash ? saved.artefact : null };
  const beginning = step === 0 ? job.beginnings[stage] : undefined;
  return beginning === undefined ? undefined : { hash: beginning, checkpoint: null };
}

const countByStage = (stages: number, members: readonly Member[]): number[] =>
  Array.from({ length: stages }, (_, stage) => members.filter((member) => member.stage === stage).length);
