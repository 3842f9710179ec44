import { listOf, oneOf, wholeNumber } from "./bench-flags.ts";
import type { EngineBenchFlags } from "./engine-options.ts";
import type { BenchEngine, EngineRow, EngineSuiteOptions } from "./engine-suite.ts";
import { benchModels } from "./engine-workload.ts";

const engines = ["tensorflow", "webgpu", "wasm", "cpu", "torch"] as const satisfies BenchEngine[];

/** @throws RingfoldError USAGE */
export function engineSuiteOptionsOf(flags: EngineBenchFlags): Omit<EngineSuiteOptions, "note" | "signal"> {
  return {
    engines: listOf(flags.engines ?? engines.join()).map((word) => oneOf("--engines", word, engines)),
    models: listOf(flags.models ?? benchModels.join()).map((word) => oneOf("--models", word, benchModels)),
    batches: listOf(flags.batches ?? "16,64").map((word) => wholeNumber("--batches", word, 1, 4_096)),
    rounds: wholeNumber("--rounds", flags.rounds ?? "5", 1, 1_000),
  };
}

/** Cells of the table that a person sees. */
export function engineBenchTable(rows: readonly EngineRow[]): { head: string[]; rows: string[][] } {
  return {
    head: ["model", "batch", "engine", "samples/s", "x torch"],
    rows: rows.map(({ engine, model, batch, samplesPerSecond, ratioToTorch }) => [
      model,
      String(batch),
      engine,
      samplesPerSecond.toLocaleString("en-US"),
      ratioToTorch?.toFixed(2) ?? "-",
    ]),
  };
}
