import type { JobRecord } from "./job-record.ts";

/**
 * A job as a new term takes it over: waits that are under way begin anew, as nobody knows what the clock by which they were
 * measured has to do with ours. How long an outage took is for people only: it keeps its beginning, unless that is yet to come.
 */
export function takenOver(job: JobRecord, nowMs: number): JobRecord {
  const members = Object.fromEntries(
    Object.entries(job.members).map(([peerId, member]) => [peerId, { ...member, sinceMs: nowMs }]),
  );
  const failures = Object.fromEntries(
    Object.entries(job.failures).map(([peerId, failure]) => [
      peerId,
      { ...failure, atMs: Math.min(failure.atMs, nowMs) },
    ]),
  );
  const { interruptedAtMs, recoveringSinceMs, result } = job;
  return {
    ...{ ...job, members, failures },
    interruptedAtMs: interruptedAtMs === null ? null : nowMs,
    recoveringSinceMs: recoveringSinceMs === null ? null : Math.min(recoveringSinceMs, nowMs),
    result: result && { ...result, atMs: nowMs },
  };
}
