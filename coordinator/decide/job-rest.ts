import type { JobWorld } from "./job-draft.ts";
import { barredFrom } from "./job-failures.ts";
import { isOver, type JobRecord } from "./job-record.ts";

/** What a job says of itself while only the queue can move it on; the queue tells people why. */
export const queuedReason = "waits in the queue";

/**
 * Whether a look around changes nothing: its ring trains and all its ranks are here, or it waits for its first agents. So it is with
 * nearly all jobs at nearly all looks, and neither says anything of time: a thousand of them are looked through in the time in which
 * one is decided about.
 * Cost: a look at each member.
 */
export function isAtRest(job: JobRecord, world: Pick<JobWorld, "peers">): boolean {
  if (isOver(job) || job.state === "paused") return true;
  if (job.hold !== null || job.result !== null || job.resumeFrom !== null || job.spec.stages === "auto")
    return false;
  if (barredFrom(job).length > 0) return false; // whose time is over, or who lives anew, is asked again
  return job.plan === null ? isQueued(job) : trainsUndisturbed(job, world);
}

const isQueued = ({ state, reason, members }: JobRecord): boolean =>
  state === "waiting" && reason === queuedReason && isEmpty(members);

function trainsUndisturbed(job: JobRecord, { peers }: Pick<JobWorld, "peers">): boolean {
  const { state, plan, members, yielding, interruptedAtMs, pauseRequested, diverged } = job;
  if (state !== "running" || interruptedAtMs !== null || pauseRequested) return false;
  if (diverged.length > 0 || !isEmpty(yielding)) return false;
  const all = Object.values(members);
  return (
    all.length === plan!.ranks.length &&
    all.every(({ peerId, phase, incarnation }) => {
      const peer = phase === "running" ? peers.get(peerId) : undefined;
      return peer?.connected === true && !peer.leaving && peer.incarnation === incarnation;
    })
  );
}

function isEmpty(record: object): boolean {
  for (const _ in record) return false;
  return true;
}
