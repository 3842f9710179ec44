import type { Command } from "commander";
import { errorRules } from "../../protocol/errors.ts";
import { type CommandContext, type CommandIo, type CommandResult, runCommand } from "./command.ts";

export function register(program: Command, io: CommandIo): void {
  const sweeps = program
    .command("sweeps")
    .description("list the sweeps of the cluster; show the trials of one, follow or cancel it")
    // runCommand refuses them, and says which commands there are.
    .allowExcessArguments()
    .action((_options: unknown, command: Command) => runCommand(command, io, list));

  sweeps
    .command("list")
    .description("list the sweeps of the cluster")
    .action((_options: unknown, command: Command) => runCommand(command, io, list));

  sweeps
    .command("show")
    .argument("<id>", "for example sweep-1")
    .description("show one sweep and the table of its trials")
    .action((id: string, _options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        const { sweepText } = await import("./present/sweep-text.ts");
        const sweep = await (await connectApi(context)).sweep(id);
        if (sweep.state === "failed") io.exitCode.value = errorRules.JOB_FAILED.exit;
        return { json: sweep, text: sweepText(sweep, Date.now()) };
      }),
    );

  sweeps
    .command("follow")
    .argument("<id>", "for example sweep-1")
    .description("follow a sweep to its end, as `sweep --follow` does")
    .action((id: string, _options: unknown, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        const { followSweep } = await import("./sweep.ts");
        return followSweep(await connectApi(context), id, context);
      }),
    );

  sweeps
    .command("cancel")
    .argument("<id>", "for example sweep-1")
    .option("--reason <text>", "why, for the event log", "")
    .description("end a sweep and those of its trials that are not over")
    .action((id: string, { reason }: { reason: string }, command: Command) =>
      runCommand(command, io, async (context) => {
        const { connectApi } = await import("./api-client.ts");
        const sweep = await (await connectApi(context)).cancelSweep(id, reason);
        return { json: sweep, text: `${sweep.id} ${sweep.state}: ${sweep.reason}` };
      }),
    );
}

async function list(context: CommandContext): Promise<CommandResult> {
  const { connectApi } = await import("./api-client.ts");
  const { sweepTable } = await import("./present/sweep-text.ts");
  const sweeps = await (await connectApi(context)).sweeps();
  return { json: sweeps, text: sweeps.length === 0 ? "no sweeps yet" : sweepTable(sweeps) };
}
