import { dirname, resolve } from "node:path";
import { type JobSpec, jobSpecSchema } from "../protocol/job-spec.ts";
import { readScript } from "./script-file.ts";
import { readYamlFile } from "./yaml-file.ts";

/**
 * Reads a job file (docs/job-file.md). Paths of data files are taken from the job file's folder and come back absolute.
 *
 * @throws RingfoldError FILE_NOT_FOUND | JOB_INVALID; the latter names every mistake as `file:line:column key: what`
 */
export async function readJobFile(path: string): Promise<JobSpec> {
  const complete = (value: unknown) => completeJob(value, path);
  const spec = await readYamlFile(path, { schema: jobSpecSchema, code: "JOB_INVALID", complete });
  return { ...spec, data: resolveData(spec.data, path) };
}

/** A script is named by its path in the file and travels as what it says; model and data are its own. */
export async function completeJob(value: unknown, jobFile: string): Promise<unknown> {
  if (typeof value !== "object" || value === null || !("script" in value)) return value;
  const { script } = value;
  const { path, ...rest } =
    typeof script === "object" && script !== null && "path" in script ? script : { path: script };
  if (typeof path !== "string") return value;
  const source = { ...(await readScript(resolve(dirname(jobFile), path))), ...rest };
  return { model: { architecture: "script" }, data: { source: "script" }, ...value, script: source };
}

export function resolveData(data: JobSpec["data"], jobFile: string): JobSpec["data"] {
  if (data.source !== "idx") return data;
  const folder = dirname(jobFile);
  return {
    ...data,
    trainImages: resolve(folder, data.trainImages),
    trainLabels: resolve(folder, data.trainLabels),
    testImages: resolve(folder, data.testImages),
    testLabels: resolve(folder, data.testLabels),
  };
}
