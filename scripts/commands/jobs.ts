import type { Command } from "commander";
import { errorRules } from "../../protocol/errors.ts";
import type { SteerAction } from "../../protocol/messages/api.ts";
import { priority, wholeNumber } from "./arguments.ts";
import { type CommandIo, runCommand } from "./command.ts";
import type { ScriptLine } from "./follow/script-output.ts";

interface LogsOptions {
  readonly follow: boolean;
  readonly rank?: number;
}

const steering: Readonly<Record<SteerAction, string>> = {
  pause: "stop a job at its next step, write a checkpoint there, and free its workers",
  resume: "let a paused job go on from there",
  cancel: "end a job; its checkpoints stay",
  retry: "let a failed or cancelled job go on from its last checkpoint",
};

export function register(program: Command, io: CommandIo): void {
  const jobs = program
    .command("jobs")
    .description(
      "list the jobs of the cluster; show, follow, pause, resume, cancel, retry or reprioritise one, or read its log",
    )
    // runCommand refuses them, and says which commands there are.
    .allowExcessArguments()
    .action((_options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        const { jobTable } = await import("./present/job-text.ts");
        const list = await (await connectApi(context)).jobs();
        return { json: list, text: list.length === 0 ? "no jobs yet" : jobTable(list) };
      }),
    );

  jobs
    .command("show")
    .argument("<id>", "for example job-3")
    .description("show one job: where it stands, its generations, checkpoints and evaluation")
    .action((id: string, _options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        const { jobText } = await import("./present/job-text.ts");
        const { failureCode } = await import("./train.ts");
        const api = await connectApi(context);
        const job = await api.job(id);
        if (job.state === "failed") io.exitCode.value = errorRules[failureCode(job)].exit;
        const { tablesOf, tablesText } = await import("./present/class-tables.ts");
        const tables = await tablesOf(job, api);
        const evaluation = job.evaluation && { ...job.evaluation, ...tables };
        const text = [jobText(job, Date.now()), tablesText(tables)]
          .filter((part) => part !== "")
          .join("\n\n");
        return { json: { ...job, evaluation }, text };
      }),
    );

  jobs
    .command("follow")
    .argument("<id>", "for example job-3")
    .description("follow a job to its end, as `train` does")
    .action((id: string, _options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        const { followToEnd } = await import("./train.ts");
        return followToEnd(await connectApi(context), id, context);
      }),
    );

  jobs
    .command("logs")
    .argument("<id>", "for example job-3")
    .option("--follow", "go on until the job is over", false)
    .option("--rank <number>", "of this rank only", wholeNumber)
    .description("show what a job's script has printed, each line with its rank")
    .action((id: string, _options: unknown, command: Command) =>
      runCommand<LogsOptions>(command, io, async (context, { follow, rank }) => {
        const { connectApi } = await import("./api-client.ts");
        const { lineText, showScriptOutput } = await import("./follow/script-output.ts");
        const api = await connectApi(context);
        const onLine = (line: ScriptLine) =>
          void io.stdout.write(`${context.common.json ? JSON.stringify(line) : lineText(line)}\n`);
        await showScriptOutput({ api, jobId: id, rank, onLine, signal: context.signal }, { follow });
        return undefined;
      }),
    );

  jobs
    .command("priority")
    .argument("<id>", "for example job-3")
    .argument("<priority>", "0 to 9; higher goes first, 5 is what a job has unless told", priority)
    .option("--reason <text>", "why, for the event log", "")
    .description("give a job another place in the queue")
    .action((id: string, value: number, { reason }: { reason: string }, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        const job = await (await connectApi(context)).prioritiseJob(id, { priority: value, reason });
        return { json: job, text: `${job.id} priority ${job.priority}, ${job.state}: ${job.reason}` };
      }),
    );

  for (const [action, description] of Object.entries(steering)) {
    jobs
      .command(action)
      .argument("<id>", "for example job-3")
      .option("--reason <text>", "why, for the event log", "")
      .description(description)
      .action((id: string, { reason }: { reason: string }, command: Command) =>
        runCommand(command, io, async (context) => {
          const { connectApi } = await import("./api-client.ts");
          const job = await (await connectApi(context)).steerJob(id, action as SteerAction, reason);
          return { json: job, text: `${job.id} ${job.state}: ${job.reason}` };
        }),
      );
  }
}
