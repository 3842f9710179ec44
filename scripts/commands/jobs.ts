import type { Command } from "commander";
import { errorRules } from "../../protocol/errors.ts";
import type { SteerAction } from "../../protocol/messages/api.ts";
import { type CommandIo, runCommand } from "./command.ts";

const steering: Readonly<Record<SteerAction, string>> = {
  pause: "stop a job at its next step, write a checkpoint there, and free its workers",
  resume: "let a paused job go on from there",
  cancel: "end a job; its checkpoints stay",
  retry: "let a failed or cancelled job go on from its last checkpoint",
};

export function register(program: Command, io: CommandIo): void {
  const jobs = program
    .command("jobs")
    .description("list the jobs of the cluster; show, follow, pause, resume, cancel or retry one")
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
        const job = await (await connectApi(context)).job(id);
        if (job.state === "failed") io.exitCode.value = errorRules[failureCode(job)].exit;
        return { json: job, text: jobText(job, Date.now()) };
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
