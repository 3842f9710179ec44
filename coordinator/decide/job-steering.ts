import { RingfoldError } from "../../protocol/errors.ts";
import type { SteerAction } from "../../protocol/messages/api.ts";
import type { JobDraft } from "./job-draft.ts";
import { isOver, type JobRecord } from "./job-record.ts";

/** What an operator asks of a job, and what follows from it over the next decisions. */

/** @throws RingfoldError CONFLICT when it makes no sense for a job in this state */
export function assertSteerable(job: JobRecord, action: SteerAction): void {
  const refusal = refusalOf(job, action);
  if (refusal)
    throw new RingfoldError("CONFLICT", `${job.id} ${refusal}`, { jobId: job.id, state: job.state });
}

/** Why that makes no sense for a job in this state, if so. */
export function refusalOf(job: JobRecord, action: SteerAction): string | undefined {
  switch (action) {
    case "cancel":
      return isOver(job) ? `is over: ${job.state}` : undefined;
    case "pause":
      if (isOver(job)) return `is over: ${job.state}`;
      if (job.result) return "has made its last step";
      return job.state === "paused" || job.hold ? "is paused already" : undefined;
    case "resume":
      if (job.hold) return "is still on its way to a pause";
      if (job.state === "paused" && job.reached && job.trial)
        return `waits for the other trials of ${job.trial.sweep}`;
      return job.state === "paused" ? undefined : `is not paused: ${job.state}`;
    case "retry":
      return job.state === "failed" || job.state === "cancelled"
        ? undefined
        : `has neither failed nor been cancelled: ${job.state}`;
  }
}

/** @param why in an operator's words; may be empty */
export function steer(draft: JobDraft, action: SteerAction, why: string): void {
  const { job } = draft;
  const words = (what: string) => `${what} by an operator${why === "" ? "" : `: ${why}`}`;
  switch (action) {
    case "cancel":
      return draft.end("cancelled", words("cancelled"));
    case "pause":
      job.holdReason = words("paused");
      if (draft.inPhase("running", "ended").length > 0) job.hold = "asked";
      else release(draft);
      return;
    case "resume":
    case "retry":
      job.resumeFrom = newestCheckpoint(job);
      // Its sweep has counted it as it was.
      if (action === "retry") Object.assign(job, { trial: null, bound: null, reached: null });
      job.changes = [words(action === "resume" ? "resumed" : "tried again")];
      Object.assign(job, { state: "waiting", reason: job.changes[0] });
      Object.assign(job, { endedAtMs: null, failure: null, failures: {}, result: null, version: null });
      delete job.faults;
      return;
  }
}

/**
 * A job that an operator holds: its ring stops at the next step boundary, each rank writes a checkpoint there, and only when
 * all who are that far have it on disk are they sent home.
 */
export function settleHold(draft: JobDraft): void {
  const { job } = draft;
  const inPlan = Object.values(job.members).filter(({ peerId }) => draft.planned(peerId));
  if (job.hold === "asked") {
    job.hold = "told";
    job.pauseRequested = true;
    job.reason = "stops at the next step boundary, to pause";
    const peerIds = inPlan.map(({ peerId }) => peerId);
    draft.effects.push({ kind: "quiesce", peerIds, generation: job.plan!.generation, checkpoint: true });
  }
  if (inPlan.some(({ phase }) => phase === "running")) return;
  const ended = inPlan.flatMap(({ peerId, point }) => (point ? [{ peerId, step: point.step }] : []));
  const step = Math.max(...ended.map((rank) => rank.step));
  const saved = peersWith(job, step);
  if (ended.every((rank) => rank.step < step || saved.includes(rank.peerId))) release(draft);
}

/** Sends everyone home; what the job needs to go on is on their disks. */
function release(draft: JobDraft): void {
  const { job } = draft;
  const from = newestCheckpoint(job);
  job.reason = from ? `${job.holdReason}, at step ${from.step}` : `${job.holdReason}, before its first step`;
  const peerIds = [...new Set([...Object.keys(job.members), ...job.peers])];
  if (peerIds.length > 0) draft.effects.push({ kind: "stop", peerIds, reason: job.reason });
  Object.assign(job, { state: "paused", hold: null, members: {}, yielding: {}, silent: [], changes: [] });
  Object.assign(job, { pauseRequested: false, interruptedAtMs: null, recoveringSinceMs: null });
}

export function newestCheckpoint(job: JobRecord): JobRecord["resumeFrom"] {
  const step = Math.max(...job.checkpoints.map((checkpoint) => checkpoint.step));
  if (job.checkpoints.length === 0) return null;
  const whole = job.checkpoints.find((checkpoint) => checkpoint.step === step && checkpoint.stage === null);
  return { step, peers: peersWith(job, step), artefact: whole?.artefact ?? null };
}

/** Who has written the checkpoint of this step, or that of its stage. */
const peersWith = ({ checkpoints }: JobRecord, step: number): string[] =>
  checkpoints.filter((checkpoint) => checkpoint.step === step).flatMap(({ peers }) => peers);
