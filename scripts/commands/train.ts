import { isDeepStrictEqual } from "node:util";
import type { Command } from "commander";
import { type ErrorCode, isErrorCode, RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import type { JobSpec } from "../../protocol/job-spec.ts";
import type { JobView } from "../../protocol/messages/api.ts";
import type { JobNeeds } from "../../protocol/needs.ts";
import type { ApiClient } from "./api-client.ts";
import { need, plainName, priority } from "./arguments.ts";
import { type CommandContext, type CommandIo, type CommandResult, runCommand } from "./command.ts";
import type { ScriptLine } from "./follow/script-output.ts";

interface TrainOptions {
  readonly detach: boolean;
  readonly engine?: string;
  readonly priority?: number;
  readonly project?: string;
  readonly need?: JobNeeds;
}

export function register(program: Command, io: CommandIo): void {
  program
    .command("train")
    .argument("<job-file>", "YAML, see docs/job-file.md; or a registered configuration, as digits@3")
    .description("check a job file, submit it and follow the job to its end")
    .option("--detach", "return as soon as the job is submitted", false)
    .option("--engine <name>", "overrides the job file's compute engine")
    .option("--priority <0-9>", "overrides the job file's; higher goes first in the queue", priority)
    .option("--project <name>", "overrides the job file's; quotas are by project", plainName)
    .option("--need <key=value>", "adds to the job file's needs, as gpuMemory=8GB or labels.room=a", need)
    .action((path: string, _options: unknown, command: Command) =>
      runCommand<TrainOptions>(command, io, (context, options) => train(path, context, options)),
    );
}

async function train(path: string, context: CommandContext, options: TrainOptions): Promise<CommandResult> {
  const { value, reference } = await readJob(path, context);
  const { priority, project } = options;
  const spec = await withEngine(value, options.engine);
  const needs = options.need && { needs: withNeeds(spec.needs, options.need) };
  const queued = { ...(priority === undefined ? {} : { priority }), ...(project && { project }) };
  const asked = { ...spec, ...queued, ...needs };
  // With something else asked for it is another configuration, which is registered under the job's name.
  const config = isDeepStrictEqual(asked, value) ? reference : undefined;
  return submitAndFollow(asked, context, { ...options, config });
}

async function readJob(
  path: string,
  context: CommandContext,
): Promise<{ readonly value: JobSpec; readonly reference?: string }> {
  const { registeredDocument } = await import("../registered-document.ts");
  const { jobSpecSchema } = await import("../../protocol/job-spec.ts");
  const { connectApi } = await import("./api-client.ts");
  const kind = { schema: jobSpecSchema, code: "JOB_INVALID" } as const;
  const registered = await registeredDocument(path, "config", kind, () => connectApi(context));
  if (registered) return registered;
  const { readJobFile } = await import("../job-file.ts");
  return { value: await readJobFile(path) };
}

/** Key by key, and label by label. */
const withNeeds = (before: JobNeeds = {}, more: JobNeeds): NonNullable<JobSpec["needs"]> => ({
  ...before,
  ...more,
  ...(more.labels && { labels: { ...before.labels, ...more.labels } }),
});

/**
 * Submits a job and shows it until it ends.
 * @param options.config the registered configuration that it is
 * @throws RingfoldError as `followToEnd`
 */
export async function submitAndFollow(
  spec: JobSpec,
  context: CommandContext,
  options: { readonly detach: boolean; readonly follow?: boolean; readonly config?: string | undefined },
): Promise<CommandResult> {
  const { connectApi } = await import("./api-client.ts");
  const api = await connectApi(context);
  const job = await api.submitJob(spec, options.config);
  if (options.detach) {
    return {
      json: job,
      text: `${job.id} submitted\nfollow: ringfold jobs follow ${job.id}\ncancel: ringfold jobs cancel ${job.id}`,
    };
  }
  context.note(`${job.id} submitted: ${job.spec.name}`);
  return followToEnd(api, job.id, context, options.follow === true);
}

async function withEngine(spec: JobSpec, name: string | undefined): Promise<JobSpec> {
  if (name === undefined) return spec;
  const { engineNameSchema } = await import("../../protocol/job-spec.ts");
  const engine = engineNameSchema.safeParse(name);
  if (spec.engine === "torch")
    throw new RingfoldError("USAGE", "--engine: this job brings a script, which runs on torch alone");
  if (engine.success) return { ...spec, engine: engine.data };
  throw new RingfoldError("USAGE", `--engine ${name}: choose one of ${engineNameSchema.options.join(", ")}`);
}

/**
 * Shows a job until it ends.
 * @param withOutput shows what its script prints, too
 * @throws RingfoldError the code that the job failed with | JOB_FAILED
 * | CANCELLED (the job was cancelled, or Ctrl-C detached us and the job goes on)
 */
export async function followToEnd(
  api: ApiClient,
  jobId: string,
  context: CommandContext,
  withOutput = false,
): Promise<CommandResult> {
  const { createJobProgress } = await import("./follow/job-progress.ts");
  const { followJob } = await import("./follow/cluster-follower.ts");
  const progress = createJobProgress({ stream: context.io.stderr, note: context.note, nowMs: Date.now });
  const output = withOutput ? showOutput(api, jobId, context, progress.say) : undefined;
  try {
    const job = await followJob(api, jobId, { ...context, onUpdate: progress.update });
    await output;
    progress.close();
    if (!output) await showLastWords(api, job, context);
    return await endOf(job);
  } catch (cause) {
    if (!context.signal.aborted) throw cause;
    throw new RingfoldError("CANCELLED", `detached: ${jobId} goes on`, {
      jobId,
      detached: true,
      remedy: `Follow it again with \`ringfold jobs follow ${jobId}\`; end it with \`ringfold jobs cancel ${jobId}\`.`,
    });
  } finally {
    progress.close();
  }
}

/** A job whose output cannot be had is followed all the same. */
async function showOutput(
  api: ApiClient,
  jobId: string,
  { signal }: CommandContext,
  say: (line: string) => void,
): Promise<void> {
  const { lineText, showScriptOutput } = await import("./follow/script-output.ts");
  const onLine = (line: ScriptLine) => say(lineText(line));
  await showScriptOutput({ api, jobId, onLine, signal }, { follow: true }).catch((cause: unknown) => {
    if (!signal.aborted) say(`the output of ${jobId} cannot be shown: ${toRingfoldError(cause).message}`);
  });
}

/** The traceback, where a script is what has failed. */
async function showLastWords(api: ApiClient, job: JobView, { note }: CommandContext): Promise<void> {
  if (job.state !== "failed" || !job.spec.script || !api.isOperator) return;
  const { lastWords } = await import("./follow/script-output.ts");
  const lines = await lastWords(api, job).catch(() => []); // the reason names the log
  for (const line of lines) note(line);
}

/** What a shell and the remedy go by: the code of what ended the job where this release knows it. */
export const failureCode = ({ failure }: JobView): ErrorCode =>
  isErrorCode(failure?.code) ? failure.code : "JOB_FAILED";

async function endOf(job: JobView): Promise<CommandResult> {
  const data = { jobId: job.id, state: job.state, reason: job.reason };
  if (job.state === "cancelled") {
    throw new RingfoldError("CANCELLED", `${job.id} was cancelled: ${job.reason}`, data);
  }
  if (job.state === "failed") {
    throw new RingfoldError(failureCode(job), `${job.id} failed: ${job.reason}`, data);
  }
  const { evaluationText } = await import("./present/job-text.ts");
  const { formatDuration } = await import("./present/quantity.ts");
  const parts = [`${job.id} succeeded`, `version ${job.version ?? "not registered"}`];
  if (job.evaluation) parts.push(evaluationText(job.evaluation));
  if (job.startedAtMs !== null && job.endedAtMs !== null) {
    parts.push(`${formatDuration(job.endedAtMs - job.startedAtMs)} of running time`);
  }
  return { json: job, text: parts.join("\n  ") };
}
