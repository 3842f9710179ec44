import { RingfoldError } from "../../protocol/errors.ts";
import { wireSchema } from "../../protocol/job-spec.ts";
import { listOf, oneOf, wholeNumber } from "./bench-flags.ts";
import type { Plane } from "./ring-contender.ts";
import type { RingBenchFlags } from "./ring-options.ts";
import type { Row, SuiteOptions, SuiteResult } from "./ring-suite.ts";

const defaultPlanes = ["tls", "plain", "rawTcp", "gloo", "openmpi"] as const satisfies Plane[];
const planes = [...defaultPlanes, "openmpiShared"] as const satisfies Plane[];
const units = { KB: 2 ** 10, MB: 2 ** 20 } as const;
const full = { worlds: "2,3,4", sizes: "64KB,1MB,16MB,128MB", planes: defaultPlanes.join(), rounds: "5" };
/** Under 20 s on two cores, and without anything that npm does not bring. */
const quick = { worlds: "2,3", sizes: "64KB,16MB", planes: "tls,plain,rawTcp", rounds: "2" };

/** @throws RingfoldError USAGE */
export function suiteOptionsOf(flags: RingBenchFlags): Omit<SuiteOptions, "note" | "signal"> {
  const defaults = flags.quick ? quick : full;
  return {
    worldSizes: listOf(flags.worlds ?? defaults.worlds).map((word) => wholeNumber("--worlds", word, 2, 16)),
    sizes: listOf(flags.sizes ?? defaults.sizes).map(bytesOf),
    planes: listOf(flags.planes ?? defaults.planes).map((word) => oneOf("--planes", word, planes)),
    wires: listOf(flags.wires ?? wireSchema.options.join()).map((word) =>
      oneOf("--wires", word, wireSchema.options),
    ),
    rounds: wholeNumber("--rounds", flags.rounds ?? defaults.rounds, 1, 1_000),
  };
}

function bytesOf(word: string): number {
  const match = /^(\d{1,4})(KB|MB)$/.exec(word);
  if (match) return Number(match[1]) * units[match[2] as keyof typeof units];
  throw new RingfoldError("USAGE", `--sizes: '${word}' is not a size such as 64KB or 16MB`);
}

const sizeText = (bytes: number): string =>
  bytes >= units.MB ? `${bytes / units.MB} MB` : `${bytes / units.KB} KB`;

/** Cells of the table that a person sees; the first row is the head. */
export function ringBenchTable({ rows, ratios }: SuiteResult): { head: string[]; rows: string[][] } {
  const number = (value: number | undefined, digits: number) => value?.toFixed(digits) ?? "-";
  const ratioOf = (row: Row) =>
    ratios.find(
      (ratio) =>
        ratio.plane === row.plane &&
        ratio.wire === row.wire &&
        ratio.worldSize === row.worldSize &&
        ratio.bytes === row.bytes,
    );
  return {
    head: [
      "ranks",
      "size",
      "plane",
      "wire",
      "ms",
      "mean ms",
      "bus GB/s",
      "x gloo",
      "x open mpi",
      "x raw tcp",
      "cpu s/GB",
      "loop p99 ms",
      "checked",
    ],
    rows: rows.map((row) => [
      String(row.worldSize),
      sizeText(row.bytes),
      row.plane,
      row.wire,
      number(row.ms, 2),
      number(row.meanMs, 2),
      number(row.busGBps, 3),
      number(ratioOf(row)?.toGloo, 2),
      number(ratioOf(row)?.toOpenMpi, 2),
      number(ratioOf(row)?.toRawTcp, 2),
      number(row.cpuSecondsPerGB, 2),
      number(row.eventLoopDelayP99Ms, 1),
      row.checked ? "every element" : "WRONG",
    ]),
  };
}
