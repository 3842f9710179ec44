import type { Command } from "commander";
import { type EngineBenchFlags, withEngineBenchOptions } from "../bench/engine-options.ts";
import { type RingBenchFlags, withRingBenchOptions } from "../bench/ring-options.ts";
import { type CommandContext, type CommandIo, type CommandResult, runCommand } from "./command.ts";

export function register(program: Command, io: CommandIo): void {
  const bench = program.command("bench").description("measure this machine");
  withRingBenchOptions(bench.command("ring")).action((_options: unknown, command: Command) =>
    runCommand<RingBenchFlags>(command, io, (context, flags) => benchRing(context, flags)),
  );
  withEngineBenchOptions(bench.command("engines")).action((_options: unknown, command: Command) =>
    runCommand<EngineBenchFlags>(command, io, (context, flags) => benchEngines(context, flags)),
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

async function benchEngines(
  { note, signal }: CommandContext,
  flags: EngineBenchFlags,
): Promise<CommandResult> {
  const { engineBenchTable, engineSuiteOptionsOf } = await import("../bench/engine-report.ts");
  const { measureEngines } = await import("../bench/engine-suite.ts");
  const { formatTable } = await import("./present/table.ts");
  const rows = await measureEngines({ ...engineSuiteOptionsOf(flags), note, signal });
  const table = engineBenchTable(rows);
  return { json: rows, text: formatTable(table.head, table.rows) };
}
