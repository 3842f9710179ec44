import type { JobView } from "../protocol/messages/api.ts";
import { generationCount, type JobRecord } from "./decide/job-record.ts";
import type { Wait } from "./decide/queue.ts";

/** A job as people see it. */
export function jobView(
  job: JobRecord,
  { progress, wait }: { readonly progress: JobView["progress"]; readonly wait: Wait | undefined },
): JobView {
  const { id, state, priority, submittedAtMs, startedAtMs, endedAtMs, version, failure, trial } = job;
  const generations = { generations: job.generations, generationCount: generationCount(job) };
  const checkpoints = job.checkpoints.map(({ step, hash, peers }) => ({ step, hash, ranks: peers.length }));
  const evaluation = job.result?.evaluation ?? null;
  const times = { submittedAtMs, startedAtMs, endedAtMs };
  const outcome = { checkpoints, evaluations: job.evaluations, evaluation, version, failure };
  // A script is as large as hundreds of views; its digest says which one it is.
  const { script } = job.spec;
  const spec = script ? { ...job.spec, script: { ...script, source: "" } } : job.spec;
  // Only the queue knows what stands between a job and its agents.
  const standing = {
    state,
    reason: wait?.reason ?? job.reason,
    priority,
    queuePosition: wait?.position ?? null,
  };
  return { id, spec, trial, ...standing, ...times, progress, ...generations, ...outcome };
}
