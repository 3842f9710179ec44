import { limits } from "../../protocol/limits.ts";
import { isOver, type JobRecord } from "./job-record.ts";

/**
 * Whether nobody will go on from the checkpoints of a job, or begin it anew: it has its version, or its sweep has counted it. One that failed or was
 * cancelled by somebody may be tried again, for a while.
 */
export function mayReleaseCheckpoints(job: JobRecord, nowMs: number): boolean {
  if (!isOver(job)) return false;
  if (job.state === "succeeded" || job.trial) return true;
  return nowMs - (job.endedAtMs ?? nowMs) > limits.checkpointsKeptMs;
}

/** When that becomes so by time alone; never, where it is so already or has to be decided first. */
export function releaseDueMs(job: JobRecord, nowMs: number): number {
  const isPending = isOver(job) && job.endedAtMs !== null && !mayReleaseCheckpoints(job, nowMs);
  return isPending ? job.endedAtMs! + limits.checkpointsKeptMs : Number.POSITIVE_INFINITY;
}

/** With that on disk, agents may be told: tried again, the job begins anew. What one with a version had stays to be seen. */
export const isReleased = (job: JobRecord, nowMs: number): boolean =>
  mayReleaseCheckpoints(job, nowMs) && (job.state === "succeeded" || job.checkpoints.length === 0);
