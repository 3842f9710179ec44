import type { SweepSpec } from "../protocol/sweep-spec.ts";
import { sweepSpecSchema } from "../protocol/sweep-spec.ts";
import { completeJob, resolveData } from "./job-file.ts";
import { readYamlFile } from "./yaml-file.ts";

/**
 * Reads a sweep file (docs/sweeps.md): a job file with `search`.
 * @throws RingfoldError FILE_NOT_FOUND | JOB_INVALID; the latter names every mistake as `file:line:column key: what`
 */
export async function readSweepFile(path: string): Promise<SweepSpec> {
  const { job, search } = await readYamlFile(path, {
    ...{ schema: sweepSpecSchema, code: "JOB_INVALID", complete: (value) => completeJob(value, path) },
    remedy: "Correct the lines that the message names; docs/sweeps.md and docs/job-file.md list every key.",
  });
  return { job: { ...job, data: resolveData(job.data, path) }, search };
}
