import { execFile } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { RingfoldError } from "../../protocol/errors.ts";
import { jobSpecSchema } from "../../protocol/job-spec.ts";
import { createApiClient } from "../commands/api-client.ts";
import { waitForView } from "../commands/follow/cluster-follower.ts";
import { formatTable } from "../commands/present/table.ts";
import { LocalCluster } from "../local-cluster/local-cluster.ts";
import { readScript } from "../script-file.ts";
import { parseBenchOptions, runBench } from "./bench-program.ts";

/**
 * What the engine torch costs: PyTorch alone against a ring of one, in turns of 25 steps in one script, and
 * DistributedDataParallel on Gloo against a ring of two; one thread and a batch of 64 on each rank, forward, backward, Adam.
 *
 *     node scripts/bench/torch.ts [--python PATH] [--rounds N] [--steps N] [--ranks LIST] [--models LIST]
 *     node scripts/bench/torch.ts --json    rows {model, ranks, way, samplesPerSecond, ratio}
 *
 * Each figure is the median of the rounds, of all ranks together; `ratio` is the median of the rounds' ratios.
 */

const run = promisify(execFile);
const lane = fileURLToPath(new URL("./torch-lane.py", import.meta.url));
const laneTimeoutMs = 180_000;

interface Flags {
  readonly python: string;
  readonly rounds: string;
  readonly steps: string;
  readonly ranks: string;
  readonly models: string;
}
type Way = "plain" | "gloo" | "ringfold" | "ringfold plaintext";
interface Row {
  readonly model: string;
  readonly ranks: number;
  readonly way: Way;
  readonly samplesPerSecond: number;
  /** To PyTorch's own way with as many ranks. */
  readonly ratio: number;
}

/** Lanes of several ranks: PyTorch's own first, which the others are compared with. */
const waysOfSeveral: readonly Way[] = ["gloo", "ringfold", "ringfold plaintext"];

interface Lane {
  readonly way: Way;
  readonly model: string;
  readonly ranks: number;
  readonly steps: number;
  readonly python: string;
}

interface Told {
  readonly samplesPerSecond: number;
  /** Of PyTorch alone, in turns with ours. */
  readonly plain?: number;
}

const toldIn = (output: string): Told => JSON.parse(output.trim().split("\n").at(-1) ?? "") as Told;

/** DistributedDataParallel without us. @returns samples a second over all ranks */
async function measureGloo({ way, model, ranks, steps, python }: Lane, folder: string): Promise<number> {
  const rendezvous = join(folder, `gloo-${process.hrtime.bigint()}`);
  const outputs = await Promise.all(
    Array.from({ length: ranks }, (_, rank) =>
      run(python, [lane, way, model, String(steps), String(rank), String(ranks), rendezvous], {
        timeout: laneTimeoutMs,
      }),
    ),
  );
  return outputs.reduce((total, { stdout }) => total + toldIn(stdout).samplesPerSecond, 0);
}

/** The same on agents of a real cluster. @returns what each rank says */
async function measureRingfold(
  { way, model, ranks, steps }: Lane,
  cluster: LocalCluster,
  folder: string,
): Promise<Told[]> {
  const { httpUrl, operatorToken } = cluster.coordinator.ready;
  const signal = AbortSignal.timeout(laneTimeoutMs);
  const api = createApiClient({ baseUrl: httpUrl, operatorToken, signal });
  const { id } = await api.submitJob(
    jobSpecSchema.parse({
      name: "bench",
      engine: "torch",
      model: { architecture: "script" },
      data: { source: "script" },
      script: {
        ...(await readScript(lane)),
        args: [ranks === 1 ? "paired" : "ringfold", model, String(steps)],
      },
      workers: { min: ranks, max: ranks },
      checkpoint: { everySteps: 1_000_000 },
      ...(way === "ringfold plaintext" ? { transport: "plaintext" } : {}),
    }),
  );
  const job = await waitForView(api, { signal, note: () => {} }, (view) =>
    view.jobs.find((found) => found.id === id && ["succeeded", "failed"].includes(found.state)),
  );
  if (job.state === "failed") throw new RingfoldError("JOB_FAILED", job.reason);
  const names = cluster.liveAgents().map(({ ready }) => ready.name);
  const logs = await Promise.all(
    names.map((name) => readFile(join(folder, name, "scripts", id, "output.log"), "utf8").catch(() => "")),
  );
  return logs.filter((log) => log !== "").map(toldIn);
}

const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

interface Rounds extends Omit<Lane, "way"> {
  readonly rounds: number;
}
type Measure<Result> = (lane: Lane) => Promise<Result>;

/** Speeds by way, of each round. */
async function measureRounds(
  { rounds, ...lane }: Rounds,
  { ours, gloo }: { readonly ours: Measure<Told[]>; readonly gloo: Measure<number> },
): Promise<Map<Way, number[]>> {
  const speeds = new Map<Way, number[]>();
  const note = (way: Way, speed: number) => {
    speeds.set(way, [...(speeds.get(way) ?? []), speed]);
    process.stderr.write(`${lane.model}, ${lane.ranks} ranks, ${way}: ${Math.round(speed)} samples/s\n`);
  };
  for (let round = 0; round < rounds; round++) {
    if (lane.ranks === 1) {
      const [told] = await ours({ ...lane, way: "ringfold" });
      note("plain", told!.plain!);
      note("ringfold", told!.samplesPerSecond);
      continue;
    }
    for (const way of waysOfSeveral) {
      const isOurs = way !== "gloo";
      const told = isOurs ? await ours({ ...lane, way }) : [];
      const sum = told.reduce((total, { samplesPerSecond }) => total + samplesPerSecond, 0);
      note(way, isOurs ? sum : await gloo({ ...lane, way }));
    }
  }
  return speeds;
}

async function measureAll(flags: Flags, cluster: LocalCluster, folder: string): Promise<Row[]> {
  const rows: Row[] = [];
  const { python } = flags;
  const [rounds, steps] = [Number(flags.rounds), Number(flags.steps)];
  const ours = (lane: Lane) => measureRingfold(lane, cluster, folder);
  const gloo = (lane: Lane) => measureGloo(lane, folder);
  for (const model of flags.models.split(",")) {
    for (const ranks of flags.ranks.split(",").map(Number)) {
      const speeds = await measureRounds({ model, ranks, rounds, steps, python }, { ours, gloo });
      const anchor = [...speeds.values()][0]!;
      for (const [way, own] of speeds) {
        const ratio = median(own.map((speed, round) => speed / anchor[round]!));
        rows.push({ model, ranks, way, samplesPerSecond: median(own), ratio });
      }
    }
  }
  return rows;
}

async function main(): Promise<void> {
  const flags = parseBenchOptions<Flags>("torch", (command) =>
    command
      .option("--python <path>", "one that has torch", "/usr/bin/python3")
      .option("--rounds <count>", "of all lanes, in turns", "3")
      .option("--steps <count>", "of each lane, best a multiple of 25", "200")
      .option("--ranks <list>", "world sizes", "1,2")
      .option("--models <list>", "of cnn and mlp", "cnn,mlp"),
  );
  if (!flags) return;
  const folder = await mkdtemp(join(tmpdir(), "ringfold-bench-torch-"));
  const ended = new AbortController();
  // Each script computes with one thread; OpenMP would give it one for each core, and the ranks fight over them.
  process.env.OMP_NUM_THREADS = "1";
  const cluster = new LocalCluster({ folder, signal: ended.signal, engine: "cpu", python: flags.python });
  try {
    await cluster.startCoordinator();
    await Promise.all(["one", "two"].map((name) => cluster.startAgent(name)));
    const rows = await measureAll(flags, cluster, folder);
    const head = ["model", "ranks", "way", "samples/s", "ratio"];
    const cells = rows.map(({ model, ranks, way, samplesPerSecond, ratio }) => [
      ...[model, String(ranks), way, Math.round(samplesPerSecond).toLocaleString("en-US"), ratio.toFixed(2)],
    ]);
    process.stdout.write(`${flags.json ? JSON.stringify(rows) : formatTable(head, cells)}\n`);
  } finally {
    await cluster.stop();
    ended.abort();
    await rm(folder, { recursive: true, force: true });
  }
}

await runBench(main);
