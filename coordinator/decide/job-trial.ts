import type { PrepareState } from "../../protocol/messages/job.ts";
import type { JobReport } from "../../protocol/messages/job-report.ts";
import type { JobDraft } from "./job-draft.ts";
import type { JobRecord } from "./job-record.ts";
import { newestCheckpoint } from "./job-steering.ts";

/** What makes a job a trial of a sweep: it pauses by itself at its bound, and goes on when the sweep says so. */

/** All ranks stop at the same step, so the first that says what the held-out set said there speaks for all. */
export function holdAtBound(draft: JobDraft, report: Extract<JobReport, { kind: "ended" }>): void {
  const { job } = draft;
  const { evaluation, point, generation } = report;
  if (!evaluation || job.bound === null || generation !== job.plan?.generation) return;
  job.reached ??= { step: point.step, evaluation };
  // Its checkpoint was told before: the hold is settled as soon as all have stopped.
  job.hold ??= "told";
  job.holdReason = `has reached epoch ${job.bound}`;
}

/** From the checkpoint that it has paused at, so nothing is trained twice and the steps are those of one long run. */
export function continueTrial({ job }: JobDraft, epochs: number | null): void {
  job.bound = epochs;
  job.reached = null;
  job.resumeFrom = newestCheckpoint(job);
  job.changes = [epochs === null ? "goes on to its end" : `goes on to epoch ${epochs}`];
  Object.assign(job, { state: "waiting", reason: job.changes[0] });
}

/**
 * The checkpoint that an agent without it fetches before it begins: trials are packed on whichever agents are free. Any
 * other job begins where its state is, and who comes later copies it in the ring.
 */
export function stateToFetch({ trial, resumeFrom }: JobRecord): PrepareState | undefined {
  if (!trial || !resumeFrom?.artefact) return undefined;
  return { digest: resumeFrom.artefact, step: resumeFrom.step, holders: resumeFrom.peers };
}

/**
 * A trial whose only checkpoint is on an agent that is gone begins anew: a sweep waits for all trials of a rung, and the
 * same seed leads to the same state again. Any other job waits for the agent to come back.
 */
export function forgetLostState({ job, world }: JobDraft): void {
  if (!job.trial || !job.resumeFrom || world.gathering) return;
  if (job.resumeFrom.peers.some((peerId) => world.peers.get(peerId)?.connected)) return;
  job.changes.push(`nobody who has step ${job.resumeFrom.step} is here: it begins anew`);
  job.resumeFrom = null;
}
