import { formatTable } from "../commands/present/table.ts";
import { parseBenchOptions, runBench } from "./bench-program.ts";
import { type EngineBenchFlags, withEngineBenchOptions } from "./engine-options.ts";
import { engineBenchTable, engineSuiteOptionsOf } from "./engine-report.ts";
import { measureEngines } from "./engine-suite.ts";

/**
 * Training speed of the compute engines: whole steps (forward, backward, gradient to the flat vector, Adam, parameters
 * back), on synthetic data, beside PyTorch on one thread.
 *
 *     node scripts/bench/engines.ts           a table
 *     node scripts/bench/engines.ts --json    rows {engine, model, batch, samplesPerSecond, ratioToTorch}
 *
 * `--help` lists what chooses a part. docs/engines.md tells what the figures mean.
 */
async function main(): Promise<void> {
  const flags = parseBenchOptions<EngineBenchFlags>("bench:engines", withEngineBenchOptions);
  if (!flags) return;
  const rows = await measureEngines({
    ...engineSuiteOptionsOf(flags),
    signal: new AbortController().signal,
    note: (line) => console.error(line),
  });
  const table = engineBenchTable(rows);
  console.log(flags.json ? JSON.stringify(rows) : formatTable(table.head, table.rows));
}

await runBench(main);
