import { dirname, resolve } from "node:path";
import { type DataSpec, type JobSpec, jobSpecSchema } from "../protocol/job-spec.ts";
import { readYamlFile } from "./yaml-file.ts";

/**
 * Reads a job file (docs/job-file.md). Paths of data files are taken from the job file's folder and come back absolute.
 *
 * @throws RingfoldError FILE_NOT_FOUND | JOB_INVALID; the latter names every mistake as `file:line:column key: what`
 */
export async function readJobFile(path: string): Promise<JobSpec> {
  const spec = await readYamlFile(path, { schema: jobSpecSchema, code: "JOB_INVALID" });
  return { ...spec, data: resolveData(spec.data, dirname(resolve(path))) };
}

function resolveData(data: DataSpec, folder: string): DataSpec {
  if (data.source !== "idx") return data;
  return {
    ...data,
    trainImages: resolve(folder, data.trainImages),
    trainLabels: resolve(folder, data.trainLabels),
    testImages: resolve(folder, data.testImages),
    testLabels: resolve(folder, data.testLabels),
  };
}
