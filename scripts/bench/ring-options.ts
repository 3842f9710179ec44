import type { Command } from "commander";

/** What a person may choose, at `ringfold bench ring` and at `npm run bench:ring`; an absent one has its default. */
export interface RingBenchFlags {
  readonly worlds?: string;
  readonly sizes?: string;
  readonly planes?: string;
  readonly wires?: string;
  readonly rounds?: string;
  readonly quick: boolean;
}

export const withRingBenchOptions = (command: Command): Command =>
  command
    .description("speed of the all-reduce over loopback, beside Gloo and Open MPI where they are installed")
    .option("--worlds <list>", "numbers of ranks; 2,3,4 unless told")
    .option("--sizes <list>", "f32 bytes on each rank; 64KB,1MB,16MB,128MB unless told")
    .option(
      "--planes <list>",
      "of tls, plain, rawTcp, gloo, openmpi, openmpiShared; all but the last unless told",
    )
    .option("--wires <list>", "of f32, bf16, int8, over tls; all unless told")
    .option("--rounds <count>", "how often everything is measured in turn; 5 unless told")
    .option("--quick", "a short form of under 20 s: less of everything", false);
