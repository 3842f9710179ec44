import type { VersionManifest } from "../protocol/messages/model.ts";
import { madeIn } from "../protocol/provenance.ts";
import { generationCount, type JobRecord } from "./decide/job-record.ts";
import { trainedJob } from "./vouched-report.ts";

/** The version that a job with a result registers: what it is, and what made it. */
export function manifestOf(
  job: JobRecord,
  { release, nowMs }: { readonly release: string; readonly nowMs: number },
): VersionManifest {
  const { name, model, weights, lineage, metrics } = madeIn(trainedJob(job)!, job.result!);
  const { peers, engines } = job;
  return {
    ...{ format: 1, name, model, weights },
    lineage: { ...lineage, generations: generationCount(job), peers, engines, release },
    metrics,
    createdAtMs: nowMs,
  };
}
