import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type JobSpec, jobSpecSchema } from "../../protocol/job-spec.ts";
import { JobObserver } from "../chaos/job-observer.ts";
import { type ApiClient, createApiClient } from "../commands/api-client.ts";
import { LocalCluster } from "../local-cluster/local-cluster.ts";
import { parseBenchOptions, runBench } from "./bench-program.ts";
import { throttleChildren } from "./throttle.ts";

/**
 * Two agents, one of them so many times slower, share a target batch: examples a second with even parts and with measured
 * ones, beside the sum of what each makes alone. Real processes over loopback; the slow one's trainer is stopped most of
 * the time.
 */
interface Row {
  readonly who: "fast" | "slow" | "even" | "measured";
  readonly samplesPerSecond: number;
  /** Of the batch, at the end. */
  readonly perMille: readonly number[] | null;
}

interface Options {
  readonly slowdown: number;
  readonly batch: number;
  readonly seconds: number;
  readonly rounds: number;
}

const timeoutMs = 5 * 60_000;
/** Steps after which shares have settled. */
const warmSteps = 12;

await runBench(async () => {
  const options = parseBenchOptions<Options>("bench:unequal", (command) =>
    command
      .option("--slowdown <n>", "how many times slower the slow agent is", Number, 4)
      .option("--batch <n>", "examples a step", Number, 2_048)
      .option("--seconds <n>", "that each job is watched", Number, 12)
      .option("--rounds <n>", "each job so often; the median counts", Number, 3),
  );
  if (!options) return;
  const rows = await measure(options, (row) => void process.stderr.write(`${lineOf(row)}\n`));
  const rate = (who: Row["who"]) => median(rows.filter((row) => row.who === who));
  const sum = rate("fast") + rate("slow");
  const efficiency = { even: rate("even") / sum, measured: rate("measured") / sum };
  if (options.json) process.stdout.write(`${JSON.stringify({ ...options, rows, efficiency })}\n`);
  else {
    const percent = (share: number) => `${Math.round(100 * share)}%`;
    process.stdout.write(
      `of the sum of speeds: even parts ${percent(efficiency.even)}, measured parts ${percent(efficiency.measured)}\n`,
    );
  }
});

async function measure(options: Options, note: (row: Row) => void): Promise<Row[]> {
  const folder = await mkdtemp(join(tmpdir(), "ringfold-unequal-"));
  const stop = new AbortController();
  const cluster = new LocalCluster({ folder, signal: stop.signal });
  let release = () => {};
  try {
    const { httpUrl, operatorToken } = (await cluster.startCoordinator()).ready;
    const api = createApiClient({ baseUrl: httpUrl, operatorToken, signal: stop.signal });
    const rows: Row[] = [];
    const watch = async (who: Row["who"], changes: Partial<JobSpec>) => {
      rows.push({ who, ...(await rateOf(api, specOf(options, changes), options.seconds)) });
      note(rows.at(-1)!);
    };
    for (let round = 0; round < options.rounds; round++) {
      const fast = await cluster.startAgent("fast");
      await watch("fast", {});
      await fast.stop();
      const slow = await cluster.startAgent("slow");
      release = throttleChildren({ folder, name: "slow", pid: slow.pid }, 1 / options.slowdown);
      await watch("slow", {});
      const again = await cluster.startAgent("fast");
      const both = { workers: { min: 2, max: 2, spares: 0 } };
      await watch("even", both);
      await watch("measured", { ...both, batchShares: "measured" });
      release();
      await Promise.all([slow.stop(), again.stop()]);
    }
    return rows;
  } finally {
    release();
    await cluster.stop();
    stop.abort();
    await rm(folder, { recursive: true, force: true });
  }
}

function specOf({ batch }: Options, changes: Partial<JobSpec>): JobSpec {
  const spec = jobSpecSchema.parse({
    name: "unequal",
    model: { architecture: "cnn" },
    data: { source: "mnist", testExamples: 100 },
    batchSize: batch,
    epochs: 10_000,
    workers: { min: 1, max: 1 },
    checkpoint: { everySteps: 1_000_000 },
    engine: "wasm",
  });
  return { ...spec, ...changes };
}

/** Of a job that is cancelled then: examples a second of whole steps, once they have settled. */
async function rateOf(api: ApiClient, spec: JobSpec, seconds: number): Promise<Omit<Row, "who">> {
  const job = await api.submitJob(spec);
  const observer = new JobObserver({ api, job, signal: AbortSignal.timeout(timeoutMs) });
  try {
    const warm = await observer.until(({ progress }) => (progress?.step ?? 0) >= warmSteps, {
      timeoutMs,
      what: "warm steps",
      urgent: true,
    });
    const from = { step: warm.progress!.step, atMs: Date.now() };
    const view = await observer.until(
      ({ progress }) => progress!.step > from.step + 2 && Date.now() - from.atMs > 1_000 * seconds,
      { timeoutMs, what: "measured steps", urgent: true },
    );
    const elapsedMs = observer.sightings.at(-1)!.atMs - from.atMs;
    const samplesPerSecond = ((view.progress!.step - from.step) * spec.batchSize * 1_000) / elapsedMs;
    return { samplesPerSecond, perMille: view.progress!.batchShares ?? null };
  } finally {
    await observer.close();
    await api.cancelJob(job.id);
  }
}

function median(rows: readonly Row[]): number {
  const rates = rows.map(({ samplesPerSecond }) => samplesPerSecond).toSorted((a, b) => a - b);
  return rates[Math.floor(rates.length / 2)]!;
}

function lineOf({ who, samplesPerSecond, perMille }: Row): string {
  const parts = perMille ? `, parts ${perMille.join(" and ")} per mille` : "";
  return `${who.padEnd(8)} ${samplesPerSecond.toFixed(0).padStart(7)} samples/s${parts}`;
}
