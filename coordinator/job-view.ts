import type { JobView } from "../protocol/messages/api.ts";
import { withoutTables } from "../protocol/messages/job-report.ts";
import { generationCount, type JobRecord } from "./decide/job-record.ts";
import type { Wait } from "./decide/queue.ts";

/** What is known of a job beside its record. */
interface JobNow {
  readonly progress: JobView["progress"];
  readonly wait: Wait | undefined;
}

const known = new WeakMap<JobRecord, JobNow & { readonly view: JobView }>();

/** A job as people see it: the same object as long as it shows the same. */
export function jobView(job: JobRecord, now: JobNow): JobView {
  const before = known.get(job);
  if (before && before.progress === now.progress && before.wait === now.wait) return before.view;
  const view = viewOf(job, now);
  known.set(job, { ...now, view });
  return view;
}

function viewOf(job: JobRecord, { progress, wait }: JobNow): JobView {
  const { id, config, state, priority, submittedAtMs, startedAtMs, endedAtMs, version, failure, trial } = job;
  const generations = { generations: job.generations, generationCount: generationCount(job) };
  const checkpoints = job.checkpoints.map(({ step, hash, peers }) => ({ step, hash, ranks: peers.length }));
  const evaluation = job.result && withoutTables(job.result.evaluation);
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
  return { id, spec, config, trial, ...standing, ...times, progress, ...generations, ...outcome };
}
