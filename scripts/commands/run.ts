import { basename } from "node:path";
import { type Command, Option } from "commander";
import { wireSchema } from "../../protocol/job-spec.ts";
import type { JobNeeds } from "../../protocol/needs.ts";
import { need, plainName, positiveInteger, priority } from "./arguments.ts";
import { type CommandContext, type CommandIo, type CommandResult, runCommand } from "./command.ts";

interface RunOptions {
  readonly workers: number;
  readonly min: number;
  readonly name?: string;
  readonly python?: string;
  readonly checkpointEvery?: number;
  readonly seed: number;
  readonly wire: string;
  readonly plaintext: boolean;
  readonly priority?: number;
  readonly project?: string;
  readonly need?: JobNeeds;
  readonly detach: boolean;
  readonly follow: boolean;
}

export function register(program: Command, io: CommandIo): void {
  program
    .command("run")
    .argument("<script>", "a PyTorch program with a ringfold.steps() loop, see docs/torch.md")
    .argument("[args...]", "its arguments; those with a dash follow a --")
    .description("run a PyTorch script on the agents that allow it, and follow it to its end")
    .option("--workers <count>", "ranks, at most", positiveInteger, 1)
    .option("--min <count>", "with fewer ranks it waits", positiveInteger, 1)
    .option("--name <name>", "of the job and its version; the script's file name unless told")
    .option("--python <path>", "the Python to run it with on each agent; the agent's own choice unless told")
    .option(
      "--checkpoint-every <steps>",
      "a durable checkpoint on every rank; 200 unless told",
      positiveInteger,
    )
    .option("--seed <number>", "of the order of examples and of torch's random numbers", positiveInteger, 1)
    .addOption(
      new Option("--wire <format>", "how gradients travel").choices(wireSchema.options).default("f32"),
    )
    .option("--plaintext", "do not encrypt gradients; for a trusted LAN", false)
    .option("--priority <0-9>", "in the queue: higher goes first, 5 unless told", priority)
    .option("--project <name>", "whose it is; quotas are by project", plainName)
    .option("--need <key=value>", "of each agent, as gpuMemory=8GB or labels.room=a; may be repeated", need)
    .option("--follow", "also show what the script prints, each line with its rank", false)
    .option("--detach", "return as soon as the job is submitted", false)
    .action((script: string, args: readonly string[], _options: unknown, command: Command) =>
      runCommand<RunOptions>(command, io, (context, options) => run({ script, args }, context, options)),
    );
}

async function run(
  { script, args }: { readonly script: string; readonly args: readonly string[] },
  context: CommandContext,
  options: RunOptions,
): Promise<CommandResult> {
  const { validate } = await import("../../protocol/codec.ts");
  const { jobSpecSchema } = await import("../../protocol/job-spec.ts");
  const { readScript } = await import("../script-file.ts");
  const { submitAndFollow } = await import("./train.ts");
  const source = await readScript(script);
  const spec = validate(
    {
      name: options.name ?? nameOf(script),
      engine: "torch",
      model: { architecture: "script" },
      data: { source: "script" },
      script: { ...source, args, ...(options.python === undefined ? {} : { python: options.python }) },
      workers: { min: Math.min(options.min, options.workers), max: options.workers },
      seed: options.seed,
      wire: options.wire,
      ...(options.priority === undefined ? {} : { priority: options.priority }),
      ...(options.project === undefined ? {} : { project: options.project }),
      ...(options.need === undefined ? {} : { needs: options.need }),
      ...(options.plaintext ? { transport: "plaintext" } : {}),
      ...(options.checkpointEvery ? { checkpoint: { everySteps: options.checkpointEvery } } : {}),
    },
    jobSpecSchema,
    "ringfold run",
  );
  context.note(`${source.name} SHA-256 ${source.digest}`);
  return submitAndFollow(spec, context, options);
}

const nameOf = (script: string): string =>
  basename(script)
    .replace(/\.py$/, "")
    .toLowerCase()
    .replace(/[^a-z0-9._-]/g, "-");
