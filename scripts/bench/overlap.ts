import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { RingfoldError } from "../../protocol/errors.ts";
import { type JobSpec, jobSpecSchema } from "../../protocol/job-spec.ts";
import { whyNoVirtualNetworks } from "../local-cluster/virtual-network.ts";
import { wholeNumber } from "./bench-flags.ts";
import { parseBenchOptions, runBench } from "./bench-program.ts";
import { openLoopbackCluster, openShapedCluster, type TrainingCluster } from "./training-cluster.ts";

/**
 * What it is worth that the ring works while the engine computes: the same job with gradients sent piece by piece and all at
 * once, in turn, on agents that are real processes; and a job on one agent alone, for the share of a core that a second one
 * adds. Steps a second are those between the start of the ring and the end of the job.
 */
const workloads = {
  /** 3.7 million parameters, 15 MB, most of them in the first two layers: little is left to compute when they go round. */
  wide: { model: { architecture: "mlp", hidden: [2_048, 1_024] }, steps: 60, examplesPerRank: 64 },
  /** 6 million parameters, 24 MB, in layers that are alike, with more to compute for each byte. */
  deep: {
    model: { architecture: "mlp", hidden: [1_024, 1_024, 1_024, 1_024, 1_024, 1_024] },
    ...{ steps: 30, examplesPerRank: 256 },
  },
  /** 0.2 MB: a single bucket, so that `overlap` has no effect; for the scaling. */
  cnn: { model: { architecture: "cnn" }, steps: 1_500, examplesPerRank: 64 },
} as const;
type Workload = keyof typeof workloads;

interface Row {
  readonly workload: Workload;
  readonly agents: number;
  readonly overlap: JobSpec["overlap"];
  readonly wire: JobSpec["wire"];
  readonly stepsPerSecond: number;
  readonly samplesPerSecond: number;
  /** Of the last progress report. */
  readonly communicationMs: number;
  readonly hiddenCommunicationMs: number;
}

interface Options {
  readonly agents: string;
  readonly rounds: string;
  readonly uplink?: string;
  readonly workloads: string;
  readonly wire: JobSpec["wire"];
  readonly json: boolean;
}

const minutesMax = 15;

await runBench(async () => {
  const options = parseBenchOptions<Omit<Options, "json">>("bench:overlap", (command) =>
    command
      .option("--agents <n>", "that train together; one alone is measured beside them", "2")
      .option("--rounds <n>", "all ways in turn in each", "3")
      .option("--workloads <names>", "comma-separated, of wide, deep and cnn", "wide,deep,cnn")
      .option("--wire <wire>", "f32, bf16 or int8", "f32")
      .option(
        "--uplink <mbit>",
        "each agent on a machine of its own (network namespace) with such an uplink",
      ),
  );
  if (options) await run(options);
});

async function run(options: Options): Promise<void> {
  const agentCount = wholeNumber("--agents", options.agents, 2, 16);
  const rounds = wholeNumber("--rounds", options.rounds, 1, 100);
  const names = options.workloads.split(",").map(workloadOf);
  const obstacle = options.uplink === undefined ? undefined : whyNoVirtualNetworks();
  if (obstacle) {
    const message = `--uplink needs network namespaces (root, iproute2): ${obstacle}`;
    throw new RingfoldError("CONFIG_INVALID", message);
  }
  const folder = await mkdtemp(join(tmpdir(), "ringfold-overlap-"));
  const ending = new AbortController();
  const shape = { folder, agentCount, signal: ending.signal };
  const uplinkMbit =
    options.uplink === undefined ? undefined : wholeNumber("--uplink", options.uplink, 1, 1e5);
  const cluster = await (uplinkMbit === undefined
    ? openLoopbackCluster(shape)
    : openShapedCluster({ ...shape, uplinkMbit }));
  try {
    const rows: Row[] = [];
    for (let round = 0; round < rounds; round++) {
      for (const way of waysOf(names, agentCount)) {
        rows.push(await train(cluster, { ...way, wire: options.wire }));
        process.stderr.write(`${lineOf(rows.at(-1)!)}\n`);
      }
    }
    const summary = summaryOf(rows, names, agentCount);
    if (options.json) process.stdout.write(`${JSON.stringify({ ...options, rows, summary })}\n`);
    else for (const each of summary) process.stdout.write(`${JSON.stringify(each)}\n`);
  } finally {
    await cluster.stop();
    ending.abort();
    await rm(folder, { recursive: true });
  }
}

function workloadOf(name: string): Workload {
  if (Object.hasOwn(workloads, name)) return name as Workload;
  throw new RingfoldError("USAGE", `--workloads: '${name}' is none of ${Object.keys(workloads).join(", ")}`);
}

type Way = Pick<Row, "workload" | "agents" | "overlap">;

function waysOf(names: readonly Workload[], agents: number): Way[] {
  return names.flatMap((workload) => [
    { workload, agents: 1, overlap: "never" },
    { workload, agents, overlap: "never" },
    { workload, agents, overlap: "auto" },
  ]);
}

async function train(cluster: TrainingCluster, way: Way & Pick<Row, "wire">): Promise<Row> {
  const { workload, agents, overlap, wire } = way;
  const { model, steps, examplesPerRank } = workloads[workload];
  const batchSize = agents * examplesPerRank;
  const spec = jobSpecSchema.parse({
    name: "overlap",
    ...{ model, batchSize, overlap, wire },
    data: { source: "mnist", trainExamples: 6_400, testExamples: 50 },
    epochs: Math.ceil((steps * batchSize) / 6_400),
    workers: { min: agents, max: agents },
    checkpoint: { everySteps: 1_000_000 },
  });
  const job = await cluster.train(spec, AbortSignal.timeout(minutesMax * 60_000));
  if (job.state !== "succeeded" || job.generations.length !== 1)
    throw new RingfoldError("JOB_FAILED", `${workload}: ${job.state}, ${job.generations.length} generations`);
  const { step, communicationMs, hiddenCommunicationMs } = job.progress!;
  const stepsPerSecond = (1_000 * step) / (job.endedAtMs! - job.startedAtMs!);
  const samplesPerSecond = stepsPerSecond * batchSize;
  return { ...way, stepsPerSecond, samplesPerSecond, communicationMs, hiddenCommunicationMs };
}

/** Medians over the rounds. */
function summaryOf(rows: readonly Row[], names: readonly Workload[], agents: number) {
  return names.map((workload) => {
    const samplesPerSecond = (of: Partial<Row>): number => {
      const same = rows.filter((row) => row.workload === workload && row.agents === of.agents);
      const chosen = same.filter((row) => of.overlap === undefined || row.overlap === of.overlap);
      const sorted = chosen.map((row) => row.samplesPerSecond).toSorted((a, b) => a - b);
      return sorted[Math.floor(sorted.length / 2)]!;
    };
    const [one, never, auto] = [
      samplesPerSecond({ agents: 1 }),
      samplesPerSecond({ agents, overlap: "never" }),
      samplesPerSecond({ agents, overlap: "auto" }),
    ];
    return {
      ...{ workload, agents, samplesPerSecond: { one, never, auto } },
      ...{ speedup: auto / never, scaling: auto / one },
    };
  });
}

function lineOf(row: Row): string {
  const ring = `waits ${row.communicationMs.toFixed(1)} ms, hides ${row.hiddenCommunicationMs.toFixed(1)} ms`;
  const rate = `${row.stepsPerSecond.toFixed(2)} steps/s  ${row.samplesPerSecond.toFixed(0)} samples/s`;
  return `${row.workload}  ${row.agents} agents  overlap ${row.overlap.padEnd(5)}  ${rate}  ${ring}`;
}
