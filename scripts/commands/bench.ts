import type { Command } from "commander";
import type { RingBenchFlags } from "../bench/ring-report.ts";
import { type CommandContext, type CommandIo, type CommandResult, runCommand } from "./command.ts";

export function register(program: Command, io: CommandIo): void {
  const bench = program.command("bench").description("measure this machine");
  bench
    .command("ring")
    .description("speed of the all-reduce over loopback, beside Gloo and Open MPI where they are installed")
    .option("--worlds <list>", "numbers of ranks; 2,3,4 unless told")
    .option("--sizes <list>", "f32 bytes on each rank; 64KB,1MB,16MB,128MB unless told")
    .option("--planes <list>", "of tls, plain, rawTcp, gloo, openmpi; all unless told")
    .option("--wires <list>", "of f32, bf16, int8, over tls; all unless told")
    .option("--rounds <count>", "how often everything is measured in turn; 5 unless told")
    .option("--quick", "a short form of under 20 s: less of everything", false)
    .action((_options: unknown, command: Command) =>
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
