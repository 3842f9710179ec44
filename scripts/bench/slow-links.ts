import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Command } from "commander";
import { RingfoldError } from "../../protocol/errors.ts";
import { type JobSpec, jobSpecSchema } from "../../protocol/job-spec.ts";
import { readJobFile } from "../job-file.ts";
import { whyNoVirtualNetworks } from "../local-cluster/virtual-network.ts";
import { openLoopbackCluster, openShapedCluster } from "./training-cluster.ts";

/**
 * What the ways of synchronizing cost in bytes and in accuracy: the demo's job on four agents, real processes and real
 * sockets, once for each way. Bytes are those that one rank's ring has sent, counted at its socket.
 */
type Method = Partial<Pick<JobSpec, "synchronization" | "wire" | "topK">>;

const diloco = { kind: "diloco", everySteps: 64, outerLearningRate: 0.7, outerMomentum: 0.9 } as const;
const averaging = { kind: "averaging", everySteps: 32 } as const;
const methods: Readonly<Record<string, Method>> = {
  "every-step": {},
  "every-step int8": { wire: "int8" },
  averaging: { synchronization: averaging },
  "averaging int8": { synchronization: averaging, wire: "int8" },
  diloco: { synchronization: diloco },
  "diloco int8": { synchronization: diloco, wire: "int8" },
  "diloco top-k 5%": { synchronization: diloco, topK: { fraction: 0.05 } },
  "diloco top-k 1%": { synchronization: diloco, topK: { fraction: 0.01 } },
};
const agentCount = 4;
const minutesMax = 15;

const options = new Command("bench:slow-links")
  .option("--epochs <n>", "passes over the digits; those of the demo unless told", Number)
  .option("--methods <names>", "comma-separated; every-step is the one that others are compared with")
  .option("--every-steps <n>", "between two synchronization points, instead of each method's own", Number)
  .option("--seed <n>", "of initial parameters and order of examples; that of the demo unless told", Number)
  .option(
    "--uplink <mbit>",
    "each agent on a machine of its own (network namespace) with such an uplink",
    Number,
  )
  .option("--json", "one JSON object on stdout", false)
  .parse()
  .opts<{
    epochs?: number;
    methods?: string;
    everySteps?: number;
    seed?: number;
    uplink?: number;
    json: boolean;
  }>();

interface Row {
  readonly method: string;
  readonly wire: string;
  readonly bytesPerRank: number;
  /** Bytes of every-step over these; null when it was not measured. */
  ratio: number | null;
  readonly accuracy: number;
  readonly steps: number;
  readonly seconds: number;
}

const chosen = options.methods?.split(",") ?? Object.keys(methods);
const mistake = findMistake();
if (mistake) {
  process.stderr.write(`bench:slow-links: ${mistake.message}\n`);
  process.exit(mistake.rule.exit);
}
const folder = await mkdtemp(join(tmpdir(), "ringfold-slow-links-"));
const ending = new AbortController();
const shape = { folder, agentCount, signal: ending.signal };
const cluster = await (options.uplink === undefined
  ? openLoopbackCluster(shape)
  : openShapedCluster({ ...shape, uplinkMbit: options.uplink }));
try {
  const rows: Row[] = [];
  for (const name of chosen) {
    rows.push(await train(name));
    process.stderr.write(`${lineOf(rows.at(-1)!)}\n`);
  }
  const reference = rows.find(({ method }) => method === "every-step");
  if (reference) for (const row of rows) row.ratio = reference.bytesPerRank / row.bytesPerRank;
  if (options.json) process.stdout.write(`${JSON.stringify({ ...options, agentCount, rows })}\n`);
  else process.stdout.write(`${rows.map(lineOf).join("\n")}\n`);
} finally {
  await cluster.stop();
  ending.abort();
  await rm(folder, { recursive: true });
}

function findMistake(): RingfoldError | undefined {
  const stranger = chosen.find((name) => !Object.hasOwn(methods, name));
  if (stranger !== undefined) {
    const message = `no method ${stranger}: choose of ${Object.keys(methods).join(", ")}`;
    return new RingfoldError("USAGE", message);
  }
  const obstacle = options.uplink === undefined ? undefined : whyNoVirtualNetworks();
  if (obstacle === undefined) return undefined;
  const message = `--uplink needs network namespaces (root, iproute2): ${obstacle}`;
  return new RingfoldError("CONFIG_INVALID", message);
}

async function train(name: string): Promise<Row> {
  const spec = await specOf(name);
  const signal = AbortSignal.any([ending.signal, AbortSignal.timeout(minutesMax * 60_000)]);
  const job = await cluster.train(spec, signal);
  if (job.state !== "succeeded" || job.generations.length !== 1)
    throw new RingfoldError(
      "JOB_FAILED",
      `${name}: ${job.state} after ${job.generations.length} generations`,
    );
  return {
    method: name,
    wire: spec.topK ? `top ${100 * spec.topK.fraction}%` : spec.wire,
    bytesPerRank: job.progress!.sentBytes,
    ratio: null,
    accuracy: job.evaluation!.accuracy!,
    steps: job.progress!.step,
    seconds: (job.endedAtMs! - job.startedAtMs!) / 1_000,
  };
}

async function specOf(name: string): Promise<JobSpec> {
  const demo = await readJobFile(fileURLToPath(new URL("../../examples/digits/job.yaml", import.meta.url)));
  const spec = jobSpecSchema.parse({
    ...demo,
    ...methods[name],
    workers: { min: agentCount, max: agentCount },
    epochs: options.epochs ?? demo.epochs,
    seed: options.seed ?? demo.seed,
  });
  const { synchronization } = spec;
  if (synchronization.kind === "every-step" || options.everySteps === undefined) return spec;
  return { ...spec, synchronization: { ...synchronization, everySteps: options.everySteps } };
}

function lineOf({ method, wire, bytesPerRank, ratio, accuracy, steps, seconds }: Row): string {
  const times = ratio === null ? "" : `${ratio.toFixed(1).padStart(8)}x`;
  return `${method.padEnd(16)} ${wire.padEnd(6)} ${(bytesPerRank / 1e6).toFixed(2).padStart(9)} MB${times}  ${(100 * accuracy).toFixed(2)}%  ${steps} steps  ${seconds.toFixed(0)} s`;
}
