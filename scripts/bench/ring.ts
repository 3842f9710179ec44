import { formatTable } from "../commands/present/table.ts";
import { parseBenchOptions, runBench } from "./bench-program.ts";
import { type RingBenchFlags, withRingBenchOptions } from "./ring-options.ts";
import { ringBenchTable, suiteOptionsOf } from "./ring-report.ts";
import { measureRings } from "./ring-suite.ts";

/**
 * Speed of the all-reduce: real processes, one a rank, over loopback.
 *
 *     node scripts/bench/ring.ts             2, 3 and 4 ranks; 64 KB to 128 MB; ours, raw TCP, Gloo, Open MPI
 *     node scripts/bench/ring.ts --quick     under 20 s; nothing but ours and raw TCP
 *     node scripts/bench/ring.ts --json      one object {rows, ratios, load}
 *
 * `--help` lists what chooses a part. docs/ring.md tells what the figures mean. Exits with 1 when a result was wrong.
 */
async function main(): Promise<void> {
  const flags = parseBenchOptions<RingBenchFlags>("bench:ring", withRingBenchOptions);
  if (!flags) return;
  const result = await measureRings({
    ...suiteOptionsOf(flags),
    signal: new AbortController().signal, // Ctrl-C ends the ranks as well
    note: (line) => console.error(line),
  });
  const { head, rows } = ringBenchTable(result);
  console.log(flags.json ? JSON.stringify(result) : formatTable(head, rows));
  if (result.rows.some(({ checked }) => !checked)) process.exitCode = 1;
}

await runBench(main);
