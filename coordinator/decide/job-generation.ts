import { stageCountOf } from "../../protocol/job-spec.ts";
import type { GenerationView } from "../../protocol/messages/api.ts";
import type { GenerationPlan } from "../../protocol/messages/job.ts";
import type { JobDraft, JobEffect } from "./job-draft.ts";
import { finishGraceMs, reformGraceMs, releaseLeavers } from "./job-members.ts";
import { type CheckpointRecord, isOver, type JobRecord, type Member } from "./job-record.ts";
import { queuedReason } from "./job-rest.ts";
import { replicaCount } from "./stages.ts";

/** So many generations may start at one step without a pause between them. */
const hastyGenerations = 4;
/** Beside the first. A job that lives for months must not make each of its decisions ever longer to write. */
const generationsKept = 200;
const retryMs = { first: 500, most: 10_000 } as const;

/** Moves the job on as far as it can go now. */
export function advance(draft: JobDraft): void {
  const { job } = draft;
  if (isOver(job)) return;
  const inPlan = Object.values(job.members).filter(({ peerId }) => draft.planned(peerId));
  const running = inPlan.filter(({ phase }) => phase === "running");
  if (job.result && (running.length === 0 || draft.world.nowMs - job.result.atMs > finishGraceMs(job)))
    return succeed(draft);
  if (job.plan && job.interruptedAtMs === null && running.length === job.plan.ranks.length) {
    job.state = "running";
    return pauseForChange(draft, running);
  }
  if (job.result) return; // the others are about to say that they have finished, too
  if (job.plan && running.length > 0) {
    // Some have ended: the others' sockets are closing at this moment, or wait to be linked with somebody who is gone.
    draft.interrupt();
    job.state = "reforming";
    job.reason = draft.changes().join(", ") || "the ring broke";
    if (draft.interruptedMs() > reformGraceMs(job)) job.reason = draft.quorum(running).reason;
    return requestPause(draft, running);
  }
  form(draft);
}

/** A clean change: newcomers are ready, someone wants to leave or has diverged; the ring pauses at its next step boundary. */
function pauseForChange(draft: JobDraft, running: readonly Member[]): void {
  const { job } = draft;
  const leaving = running.filter(({ peerId }) => draft.isLeaving(peerId));
  const room = job.spec.workers.max - running.length + leaving.length;
  const joining = Object.values(job.members).filter(
    ({ peerId, phase }) => phase === "ready" && !draft.planned(peerId),
  );
  // A pause would have the ranks that heal begin again; a newcomer waits for them instead.
  const canJoin = joining.length > 0 && room > 0 && !running.some(({ healing }) => healing) && canGrow(draft);
  if (job.pauseRequested || (leaving.length === 0 && !canJoin && job.diverged.length === 0)) return;
  for (const { peerId } of leaving) {
    const to = job.yielding[peerId];
    job.changes.push(`${draft.name(peerId)} ${to === undefined ? "leaves" : `goes to ${to}`}`);
  }
  requestPause(draft, running);
}

/** With stages a newcomer joins only where there is one more for each of them; who was left over before counts too. */
function canGrow(draft: JobDraft): boolean {
  const stages = stageCountOf(draft.job.spec);
  const able = draft.inPhase("running", "ready", "ended");
  return stages === undefined || replicaCount(draft.job, able) * stages > draft.job.plan!.ranks.length;
}

/** Once a generation. */
function requestPause(draft: JobDraft, running: readonly Member[]): void {
  const { job } = draft;
  if (job.pauseRequested) return;
  job.pauseRequested = true;
  const peerIds = running.map(({ peerId }) => peerId);
  draft.effects.push({ kind: "quiesce", peerIds, generation: job.plan!.generation });
}

function form(draft: JobDraft): void {
  const { job } = draft;
  releaseLeavers(draft);
  const members = Object.values(job.members);
  if (members.length === 0) {
    job.state = job.plan ? "reforming" : "waiting";
    job.reason = queuedReason;
    return;
  }
  const preparing = members.filter(({ phase }) => phase === "preparing").length;
  const candidates = draft.inPhase("ready", "ended");
  // Where nobody is in the middle of something, nothing is gained by a ring of those who happened to be ready first.
  const begins = draft.inPhase("ended").length === 0;
  if (begins && preparing > 0 && candidates.length < job.spec.workers.max) {
    job.state = job.plan ? "reforming" : "preparing";
    job.reason = `${candidates.length} of ${members.length} workers are ready`;
    return;
  }
  const missing = candidates.filter(({ peerId }) => !draft.world.peers.has(peerId));
  if (missing.length > 0) {
    job.reason = `waits for ${missing.length} of its workers to come back to this coordinator`;
    return;
  }
  const { plan, reason } = draft.quorum([]);
  if (plan && mustWait(draft, plan)) {
    job.state = "reforming";
    return;
  }
  job.reason = reason;
  if (plan) adopt(draft, plan);
  else job.state = job.plan ? "reforming" : "waiting";
}

/**
 * Rings that break before their first step, again and again, are formed ever more slowly: two ranks may not reach each
 * other. Meanwhile all are asked to announce themselves anew, as an address may be out of date.
 */
function mustWait(draft: JobDraft, { start }: GenerationPlan): boolean {
  const { job } = draft;
  const progressed = job.generations.findLastIndex(({ startStep }) => startStep !== start.step);
  const repeated = job.generations.length - 1 - progressed;
  const delayMs = Math.min(retryMs.most, retryMs.first * 2 ** (repeated - hastyGenerations - 1));
  if (repeated <= hastyGenerations || job.interruptedAtMs === null || draft.interruptedMs() >= delayMs)
    return false;
  const reason = `the ring broke ${repeated} times before its first step; it is formed again more slowly`;
  if (job.reason === reason) return true;
  job.reason = reason;
  draft.effects.push(
    ...draft.inPhase("ready", "ended").map(({ peerId }): JobEffect => ({ kind: "prepare", peerId })),
  );
  return true;
}

function adopt(draft: JobDraft, plan: GenerationPlan): void {
  const { job } = draft;
  job.plan = plan;
  if (plan.stages && plan.start.step === 0) job.beginnings = plan.stages.map(({ hash }) => hash);
  job.state = "running";
  job.startedAtMs ??= draft.shownMs;
  job.pauseRequested = false;
  job.changes = [];
  job.yielding = {};
  job.dissents = [];
  job.diverged = [];
  job.silent = [];
  job.resumeFrom = null;
  job.stepMs = null;
  job.recoveringSinceMs ??= job.interruptedAtMs; // a ring that breaks before its first step: still the same outage
  job.interruptedAtMs = null;
  // Later ones died with their owners; trained again in another world, those steps have other bits.
  job.checkpoints = job.checkpoints.filter((each) => isBefore(plan, each));
  job.evaluations = job.evaluations.filter(({ step }) => step < plan.start.step); // known one step later
  job.generations = withNewest(job.generations, {
    generation: plan.generation,
    ranks: plan.ranks.map(({ peerId }) => peerId),
    startStep: plan.start.step,
    reason: plan.reason,
    startedAtMs: draft.shownMs,
    recoveryMs: null,
    algorithm: plan.algorithm,
    predictedCommunicationMs: plan.predictedCommunicationMs,
    healed: [],
  });
  for (const { peerId, heals } of plan.ranks) {
    draft.setPhase(job.members[peerId]!, "running");
    job.members[peerId]!.healing = heals;
    delete job.members[peerId]!.stalled;
    if (!job.peers.includes(peerId)) job.peers.push(peerId);
  }
  draft.effects.push({ kind: "start", plan });
}

/** Whether a plan goes on from this checkpoint, or from a later one. */
const isBefore = ({ start, stages }: GenerationPlan, { step, hash, stage }: CheckpointRecord): boolean =>
  step < start.step ||
  (step === start.step && hash === (stage === null ? start.hash : stages?.[stage]?.hash));

/** The first one tells how it began; of a long life the last ones are enough. */
const withNewest = (
  generations: readonly GenerationView[],
  newest: GenerationView,
): JobRecord["generations"] => [
  ...generations.slice(0, 1),
  ...generations.slice(1).slice(1 - generationsKept),
  newest,
];

function succeed(draft: JobDraft): void {
  const { evaluation, stoppedEarly, isBest, point } = draft.job.result!;
  const { accuracy, loss, metrics, examples } = evaluation;
  const quality = [
    ...(stoppedEarly ? [isBest ? "stopped early" : `stopped early after step ${point.step}`] : []),
    ...(isBest ? [`the best state, after step ${point.step}`] : []),
    accuracy === null ? `loss ${loss.toPrecision(4)}` : `accuracy ${(100 * accuracy).toFixed(2)}%`,
    ...Object.entries(metrics).map(([name, value]) => `${name} ${value.toPrecision(4)}`),
  ];
  const told = `${quality.join(", ")} on the held-out examples`;
  draft.end("succeeded", examples === 0 ? "all steps are done" : told); // a script need not evaluate
  draft.effects.push({ kind: "register" });
}
