import type { JobRecord } from "./job-record.ts";

/**
 * A backup is older than the cluster that it is put back into: agents have heard of later terms and have trained later
 * generations, of which it knows nothing. Both are numbered on from far beyond what can have come in between.
 */
export const restoredTerms = 1_000_000;
const restoredGenerations = 1_000_000;

/**
 * A job of a restored coordinator that was not over: its agents are asked to prepare for a later generation than any, end the one
 * that they may be in, say how far they have come, and a ring is formed from the most advanced of them.
 */
export function asRestored(job: JobRecord): JobRecord {
  const asked = ([peerId, member]: [string, JobRecord["members"][string]]) =>
    [peerId, { ...member, phase: "preparing" as const, point: null }] as const;
  return {
    ...job,
    members: Object.fromEntries(Object.entries(job.members).map(asked)),
    plan: job.plan && { ...job.plan, generation: job.plan.generation + restoredGenerations },
    pauseRequested: false,
    changes: ["the coordinator was restored from a backup"],
  };
}
