import type { Command } from "commander";

/** What a person may choose, at `ringfold bench engines` and at `npm run bench:engines`; an absent one has its default. */
export interface EngineBenchFlags {
  readonly engines?: string;
  readonly models?: string;
  readonly batches?: string;
  readonly rounds?: string;
}

export const withEngineBenchOptions = (command: Command): Command =>
  command
    .description(
      "speed of training on each compute engine, beside PyTorch on one thread where it is installed",
    )
    .option("--engines <list>", "of tensorflow, webgpu, wasm, cpu, torch; all unless told")
    .option("--models <list>", "of cnn, depthwise, mlp, transformer; all unless told")
    .option("--batches <list>", "examples a step; 16,64 unless told")
    .option("--rounds <count>", "how often everything is measured in turn; 5 unless told");
