import { z } from "zod";
import { type JobSpec, jobObjectSchema, jobSpecSchema } from "./job-spec.ts";
import { type Parameters, type Search, searchSchema, trialsOf } from "./search.ts";

/** A sweep: a job, and which of its keys are varied. The file is a job file with one more key; docs/sweeps.md is its manual. */
export interface SweepSpec {
  readonly job: JobSpec;
  readonly search: Search;
}

const sweepObjectSchema = z.strictObject({
  ...jobObjectSchema.shape,
  /** Of each trial: as many of them as there are agents run at a time. */
  workers: jobObjectSchema.shape.workers.default({ min: 1, max: 1, spares: 0 }),
  search: searchSchema,
});
type SweepFile = z.infer<typeof sweepObjectSchema>;

export const sweepSpecSchema = sweepObjectSchema
  .superRefine(checkJob)
  .transform(({ search, ...job }): SweepSpec => ({ job, search }));

/** The job of one trial. @throws ZodError never after `sweepSpecSchema` has let the sweep pass */
export const trialSpec = ({ job }: SweepSpec, number: number, parameters: Parameters): JobSpec =>
  jobSpecSchema.parse({ ...withParameters(job, parameters), name: trialName(job.name, number) });

/** Versions of trials have names of their own; only the best one is registered under the sweep's. */
const trialName = (name: string, number: number): string => `${name.slice(0, 52)}-trial-${number}`;

function withParameters(job: JobSpec, parameters: Parameters): Record<string, unknown> {
  const result = structuredClone(job) as Record<string, unknown>;
  for (const [path, value] of Object.entries(parameters)) {
    const keys = path.split(".");
    let at = result;
    for (const key of keys.slice(0, -1)) {
      if (typeof at[key] !== "object" || at[key] === null) at[key] = {};
      at = at[key] as Record<string, unknown>;
    }
    at[keys.at(-1)!] = value;
  }
  return result;
}

/** Everything that a trial would fail by before its first step is found here, at the key that causes it. */
function checkJob({ search, ...job }: SweepFile, context: z.RefinementCtx<SweepFile>): void {
  const base = jobSpecSchema.safeParse(job);
  for (const { path, message } of base.error?.issues ?? [])
    context.addIssue({ code: "custom", path, message });
  const complain = (path: readonly string[], message: string) =>
    context.addIssue({ code: "custom", path: ["search", ...path], message });
  if (!base.success) return;
  if (search.method === "halving" && search.minEpochs > job.epochs)
    complain(["minEpochs"], `minEpochs is more than the ${job.epochs} epochs of the job`);
  if (search.method === "halving" && job.engine === "torch")
    complain(["method"], "a script is not paused at an epoch: take random or grid");
  for (const [path, dimension] of Object.entries(search.space)) {
    const at = ["space", path];
    if (["name", "project", "priority", "workers.min", "workers.max"].includes(path) || /^needs\b/.test(path))
      complain(at, "is the same for all trials");
    if (search.method === "grid" && "min" in dimension && dimension.count === undefined)
      complain(at, "a grid needs count, or values");
    const samples = "values" in dimension ? dimension.values : [dimension.min, dimension.max];
    const mistake = samples.map((value) => mistakeOf(job, path, value)).find((found) => found !== undefined);
    if (mistake !== undefined) complain(at, mistake);
  }
  if (context.issues.length > 0) return;
  const trials = trialsOf(search);
  if (!trials) return complain(["space"], "the grid has more than 256 trials");
  for (const trial of trials) {
    const issue = jobSpecSchema.safeParse(withParameters(job, trial)).error?.issues[0];
    if (issue)
      return complain(["space"], `${JSON.stringify(trial)}: ${issue.path.join(".")}: ${issue.message}`);
  }
}

/** Why a value cannot stand at a path of the job, whatever else is varied. */
function mistakeOf(job: JobSpec, path: string, value: Parameters[string]): string | undefined {
  const issues = jobSpecSchema.safeParse(withParameters(job, { [path]: value })).error?.issues ?? [];
  // What several keys must fulfil together is asked of whole trials.
  const issue = issues.find(({ code }) => code !== "custom");
  if (!issue) return undefined;
  if (issue.code !== "unrecognized_keys") return `${JSON.stringify(value)}: ${issue.message}`;
  const plain = (text: string) => text.toLowerCase().replace(/[^a-z0-9]/g, "");
  const last = plain(path.split(".").at(-1)!);
  const meant = keysOf(z.toJSONSchema(jobSpecSchema, { io: "input" }) as ObjectSchema).find(
    (known) => plain(known) === plain(path) || plain(known.split(".").at(-1)!) === last,
  );
  return `is no key of this job${meant !== undefined && meant !== path ? `: did you mean ${meant}?` : ""}`;
}

interface ObjectSchema {
  readonly properties?: Readonly<Record<string, ObjectSchema>>;
  readonly oneOf?: readonly ObjectSchema[];
}

/** Every dotted key of the schema. */
const keysOf = ({ properties = {}, oneOf = [] }: ObjectSchema, above = ""): string[] => [
  ...Object.entries(properties).flatMap(([key, inner]) => [
    `${above}${key}`,
    ...keysOf(inner, `${above}${key}.`),
  ]),
  ...oneOf.flatMap((shape) => keysOf(shape, above)),
];
