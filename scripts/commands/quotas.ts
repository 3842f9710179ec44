import type { Command } from "commander";
import { RingfoldError } from "../../protocol/errors.ts";
import { plainName, wholeNumber } from "./arguments.ts";
import { type CommandContext, type CommandIo, type CommandResult, runCommand } from "./command.ts";

interface SetOptions {
  readonly agents?: number;
  readonly jobs?: number;
}

export function register(program: Command, io: CommandIo): void {
  const quotas = program
    .command("quotas")
    .description("list what projects may have of the cluster at a time; set or remove such a bound")
    // runCommand refuses them, and says which commands there are.
    .allowExcessArguments()
    .action((_options: unknown, command: Command) => runCommand(command, io, list));

  quotas
    .command("list")
    .description("list the quotas, and what the projects have")
    .action((_options: unknown, command: Command) => runCommand(command, io, list));

  quotas
    .command("set")
    .argument("<project>", "as `project` in the job file says it; default where it says none", plainName)
    .option("--agents <count>", "agents that work for its jobs, at most", wholeNumber)
    .option("--jobs <count>", "jobs that run at a time, at most", wholeNumber)
    .description("bound what a project may have; replaces the bounds that it had")
    .action((project: string, _options: unknown, command: Command) =>
      runCommand<SetOptions>(command, io, async (context, { agents = null, jobs = null }) => {
        if (agents === null && jobs === null)
          throw new RingfoldError("USAGE", "give --agents, --jobs or both; `quotas remove` takes both away");
        const { connectApi } = await import("./api-client.ts");
        const { quotaTable } = await import("./present/quota-text.ts");
        const quota = await (await connectApi(context)).setQuota(project, { agents, jobs });
        return { json: quota, text: quotaTable([quota]) };
      }),
    );

  quotas
    .command("remove")
    .argument("<project>", "for example vision", plainName)
    .description("take the bounds of a project away")
    .action((project: string, _options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        await (await connectApi(context)).removeQuota(project);
        return { json: { project, removed: true }, text: `project ${project} has no quota any more` };
      }),
    );
}

async function list(context: CommandContext): Promise<CommandResult> {
  const { connectApi } = await import("./api-client.ts");
  const { quotaTable } = await import("./present/quota-text.ts");
  const quotas = await (await connectApi(context)).quotas();
  return { json: quotas, text: quotas.length === 0 ? "no quotas are set" : quotaTable(quotas) };
}
