import type { JobRecord } from "./job-record.ts";

/**
 * A backup is older than the cluster that it is put back into: agents have heard of later terms and have trained later
 * generations, of which it knows nothing. Both are numbered on from far beyond what can have come in between.
 */
export const restoredTerms = 1_000_000;
const restoredGenerations = 1_000_000;

/**
 * A job of a restored coordinator that was not over: its trainers, wherever they have come to, are ended, and it is formed anew
 * from the newest state that its agents have on disk.
 */
export function asRestored(job: JobRecord): JobRecord {
  const overdue = ([peerId, member]: [string, JobRecord["members"][string]]) =>
    [peerId, { ...member, phase: "preparing" as const, sinceMs: 0, point: null }] as const;
  return {
    ...job,
    members: Object.fromEntries(Object.entries(job.members).map(overdue)),
    plan: job.plan && { ...job.plan, generation: job.plan.generation + restoredGenerations },
    pauseRequested: false,
    changes: ["the coordinator was restored from a backup"],
  };
}
