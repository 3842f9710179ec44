import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { jobSpecSchema } from "../../protocol/job-spec.ts";
import type { JobView } from "../../protocol/messages/api.ts";
import { JobObserver } from "../chaos/job-observer.ts";
import { createApiClient } from "../commands/api-client.ts";
import { LocalCluster } from "../local-cluster/local-cluster.ts";
import { parseBenchOptions, runBench } from "./bench-program.ts";
import { measureRings } from "./ring-suite.ts";

/**
 * What a newcomer with a large state costs those who train: agents train a perceptron, one more comes in the middle and
 * heals from all of them. Told are the rate of the copy, beside what a ring of two makes of the data plane on the idle
 * machine, and the time of the others' steps before, meanwhile and after. Real processes over loopback.
 */
interface Row {
  readonly stateMB: number;
  readonly sources: number;
  readonly healMs: number;
  readonly healGBps: number;
  readonly stepMs: { readonly before: number; readonly meanwhile: number | null; readonly after: number };
}

const settleMs = 10_000;
const timeoutMs = 5 * 60_000;

const options = () =>
  parseBenchOptions<{ hidden: number; agents: number; rounds: number }>("bench:healing", (command) =>
    command
      .option("--hidden <n>", "units of each of the two hidden layers", Number, 4_096)
      .option("--agents <n>", "that train before the newcomer comes", Number, 2)
      .option("--rounds <n>", "newcomers, one after the other", Number, 3),
  );
await runBench(async () => {
  const chosen = options();
  if (chosen) await run(chosen);
});

async function run(options: {
  hidden: number;
  agents: number;
  rounds: number;
  json: boolean;
}): Promise<void> {
  const note = (line: string) => void process.stderr.write(`${line}\n`);
  const stop = new AbortController();
  const dataPlaneGBps = await measureDataPlane(stop.signal);
  note(`a ring of two on the idle machine: ${dataPlaneGBps.toFixed(2)} GB/s`);
  const folder = await mkdtemp(join(tmpdir(), "ringfold-healing-"));
  const cluster = new LocalCluster({ folder, signal: stop.signal });
  try {
    const rows = await measure(cluster, options, note);
    const shares = rows.map(({ healGBps }) => healGBps / dataPlaneGBps).toSorted((a, b) => a - b);
    const share = shares[Math.floor(shares.length / 2)]!;
    if (options.json) process.stdout.write(`${JSON.stringify({ ...options, dataPlaneGBps, share, rows })}\n`);
    else {
      for (const row of rows) process.stdout.write(`${lineOf(row)}\n`);
      process.stdout.write(`${Math.round(100 * share)}% of the data plane\n`);
    }
  } finally {
    await cluster.stop();
    stop.abort();
    await rm(folder, { recursive: true, force: true });
  }
}

async function measureDataPlane(signal: AbortSignal): Promise<number> {
  const { rows } = await measureRings({
    ...{ worldSizes: [2], sizes: [2 ** 27], planes: ["tls"], wires: ["f32"], rounds: 5 },
    ...{ signal, note: () => {} },
  });
  return rows[0]!.busGBps;
}

async function measure(
  cluster: LocalCluster,
  { hidden, agents, rounds }: { hidden: number; agents: number; rounds: number },
  note: (line: string) => void,
): Promise<Row[]> {
  const { httpUrl, operatorToken } = (await cluster.startCoordinator()).ready;
  for (let i = 0; i < agents; i++) await cluster.startAgent(`agent-${i + 1}`);
  const signal = new AbortController().signal;
  const api = createApiClient({ baseUrl: httpUrl, operatorToken, signal });
  const spec = jobSpecSchema.parse({
    name: "healing",
    model: { architecture: "mlp", hidden: [hidden, hidden] },
    data: { source: "mnist" },
    optimizer: { kind: "adam" },
    epochs: 10_000,
    workers: { min: agents, max: agents + 1 },
    checkpoint: { everySteps: 1_000_000 },
  });
  const job = await api.submitJob(spec);
  const observer = new JobObserver({ api, job, signal });
  const rows: Row[] = [];
  try {
    for (let round = 0; round < rounds; round++) {
      const until = (accept: (view: JobView) => boolean, what: string) =>
        observer.until(accept, { timeoutMs, what, urgent: true });
      await until(
        ({ state, generations, progress }) =>
          state === "running" &&
          progress !== null &&
          progress.worldSize === agents &&
          generations.at(-1)?.ranks.length === agents,
        "training",
      );
      await settle();
      const before = stepMs(observer, Date.now() - settleMs, Date.now());
      const newcomer = await cluster.startAgent("newcomer");
      const view = await until(({ generations }) => (generations.at(-1)?.healed.length ?? 0) > 0, "healing");
      const generation = view.generations.at(-1)!;
      const { bytes, ms } = generation.healed[0]!;
      const healedAtMs = Date.now();
      await settle();
      rows.push({
        stateMB: bytes / 1e6,
        sources: generation.ranks.length - 1,
        healMs: ms,
        healGBps: bytes / 1e6 / ms,
        stepMs: {
          before: before ?? Number.NaN,
          meanwhile: stepMs(observer, healedAtMs - ms, healedAtMs),
          after: stepMs(observer, healedAtMs, Date.now()) ?? Number.NaN,
        },
      });
      note(lineOf(rows.at(-1)!));
      await newcomer.kill();
    }
  } finally {
    await observer.close();
  }
  return rows;
}

function settle(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, settleMs));
}

/** Mean time of a step between the first and the last one seen in that time; null when fewer than two were. */
function stepMs(observer: JobObserver, fromMs: number, toMs: number): number | null {
  const seen = observer.sightings.filter(({ atMs }) => atMs >= fromMs && atMs <= toMs);
  const [first, last] = [seen[0], seen.at(-1)];
  return first && last && last.step > first.step ? (last.atMs - first.atMs) / (last.step - first.step) : null;
}

function lineOf({ stateMB, sources, healMs, healGBps, stepMs: step }: Row): string {
  const times = [step.before, step.meanwhile, step.after].map((ms) => (ms === null ? "-" : ms.toFixed(0)));
  return `${stateMB.toFixed(0)} MB from ${sources} ranks in ${healMs.toFixed(0)} ms: ${healGBps.toFixed(2)} GB/s; steps before, meanwhile, after: ${times.join(", ")} ms`;
}
