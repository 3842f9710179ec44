import type { Command } from "commander";
import { type RingBenchFlags, withRingBenchOptions } from "../bench/ring-options.ts";
import { type CommandContext, type CommandIo, type CommandResult, runCommand } from "./command.ts";

export function register(program: Command, io: CommandIo): void {
  const bench = program.command("bench").description("measure this machine");
  withRingBenchOptions(bench.command("ring")).action((_options: unknown, command: Command) =>
    runCommand<RingBenchFlags>(command, io, (context, flags) => benchRing(context, flags)),
  );
}

async function benchRing(
  { io, note, signal }: CommandContext,
  flags: RingBenchFlags,
): Promise<CommandResult> {
  const { ringBenchTable, suiteOptionsOf } = await import("../bench/ring-report.ts");
  const { measureRings } = await import("../bench/ring-suite.ts");
  const { formatTable } = await import("./present/table.ts");
  const result = await measureRings({ ...suiteOptionsOf(flags), note, signal });
  if (result.rows.some(({ checked }) => !checked)) io.exitCode.value = 1;
  const { head, rows } = ringBenchTable(result);
  return { json: result, text: formatTable(head, rows) };
}
