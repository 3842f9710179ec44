import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type JobSpec, jobSpecSchema } from "../../protocol/job-spec.ts";
import type { JobView } from "../../protocol/messages/api.ts";
import { assertProcessesCanBeCounted, processesOf } from "../chaos/processes.ts";
import { createApiClient } from "../commands/api-client.ts";
import { waitForView } from "../commands/follow/cluster-follower.ts";
import { LocalCluster } from "../local-cluster/local-cluster.ts";
import { parseBenchOptions, runBench } from "./bench-program.ts";

/**
 * A model that no agent may train by itself: refused where it is whole, trained where it is cut into stages, and what the
 * trainers' processes hold at most. Beside it the same on one agent without a limit. Real processes over loopback.
 */
interface Row {
  readonly run: "whole" | "whole, limited" | "stages, limited";
  readonly state: JobView["state"];
  /** Why it was refused, or how it ended. */
  readonly reason: string;
  readonly samplesPerSecond: number | null;
  /** The most that each trainer held at a look. */
  readonly peakMb: readonly number[];
  readonly weights: string | null;
}

interface Options {
  readonly limitMb: number;
  readonly width: number;
  readonly stages: number;
  readonly examples: number;
}

const lookEveryMs = 100;
const timeoutMs = 5 * 60_000;

await runBench(async () => {
  const options = parseBenchOptions<Options>("bench:stages", (command) =>
    command
      .option("--limit-mb <n>", "what a training may take on an agent", Number, 600)
      .option("--width <n>", "of three hidden layers", Number, 2_048)
      .option("--stages <n>", "and as many agents", Number, 2)
      .option("--examples <n>", "that it trains on, 64 a step", Number, 256),
  );
  if (!options) return;
  assertProcessesCanBeCounted();
  const note = (row: Row) => void process.stderr.write(`${lineOf(row)}\n`);
  const whole = specOf(options, {});
  const staged = specOf(options, { stages: options.stages });
  const rows = [
    ...(await trainOn({ agents: 1 }, [["whole", whole]], note)),
    ...(await trainOn(
      { agents: options.stages, memoryLimitMb: options.limitMb },
      [
        ["whole, limited", { ...whole, workers: { min: 1, max: 1, spares: 0 } }],
        ["stages, limited", staged],
      ],
      note,
    )),
  ];
  const isSame = rows[2]!.weights !== null && rows[2]!.weights === rows[0]!.weights;
  if (options.json) process.stdout.write(`${JSON.stringify({ ...options, rows, sameWeights: isSame })}\n`);
  else process.stdout.write(`${isSame ? "the same weights, to the bit" : "other weights"}\n`);
});

function specOf({ width, examples, stages }: Options, changes: Partial<JobSpec>): JobSpec {
  const spec = jobSpecSchema.parse({
    name: "wide",
    model: { architecture: "mlp", hidden: [width, width, width] },
    data: { source: "mnist", trainExamples: examples, testExamples: 100 },
    batchSize: 64,
    microBatchSize: 8,
    workers: { min: 1, max: stages },
    checkpoint: { everySteps: 5 },
    engine: "wasm",
  });
  return { ...spec, ...changes };
}

async function trainOn(
  on: { readonly agents: number; readonly memoryLimitMb?: number },
  jobs: readonly (readonly [Row["run"], JobSpec])[],
  note: (row: Row) => void,
): Promise<Row[]> {
  const folder = await mkdtemp(join(tmpdir(), "ringfold-stages-"));
  const stop = new AbortController();
  const { memoryLimitMb } = on;
  const limit = memoryLimitMb === undefined ? {} : { memoryLimitMb };
  const cluster = new LocalCluster({ folder, signal: stop.signal, ...limit });
  try {
    const { httpUrl, operatorToken } = (await cluster.startCoordinator()).ready;
    const names = Array.from({ length: on.agents }, (_, i) => `agent-${i + 1}`);
    await Promise.all(names.map((name) => cluster.startAgent(name)));
    const api = createApiClient({ baseUrl: httpUrl, operatorToken, signal: stop.signal });
    const rows: Row[] = [];
    for (const [run, spec] of jobs) {
      const agents = new Set(cluster.liveAgents().map(({ pid }) => pid));
      const memory = watchTrainers(folder, agents);
      const { id } = await api.submitJob(spec);
      const signal = AbortSignal.timeout(timeoutMs);
      const read = { signal, note: () => {} };
      const job = await waitForView(api, read, (view) =>
        view.jobs.find((each) => each.id === id && each.endedAtMs !== null),
      );
      const version = await waitForView(api, read, (view) => ({
        weights: view.versions.find(({ jobId }) => jobId === id)?.weightsDigest ?? null,
      }));
      const rate = job.progress?.samplesPerSecond ?? null;
      const { state, reason } = job;
      rows.push({ run, state, reason, samplesPerSecond: rate, peakMb: memory.stop(), ...version });
      note(rows.at(-1)!);
    }
    return rows;
  } finally {
    await cluster.stop();
    stop.abort();
    await rm(folder, { recursive: true, force: true });
  }
}

/** Looks at the children of the agents. @returns the most that each of them has held, when it is stopped */
function watchTrainers(folder: string, agents: ReadonlySet<number>): { readonly stop: () => number[] } {
  const peaks = new Map<number, number>();
  const timer = setInterval(() => {
    for (const { pid, parentPid, residentBytes } of processesOf(folder))
      if (agents.has(parentPid)) peaks.set(pid, Math.max(peaks.get(pid) ?? 0, residentBytes));
  }, lookEveryMs);
  return {
    stop: () => {
      clearInterval(timer);
      return [...peaks.values()].map((bytes) => Math.round(bytes / 1e6)).sort((a, b) => b - a);
    },
  };
}

function lineOf({ run, state, reason, samplesPerSecond, peakMb }: Row): string {
  const speed = samplesPerSecond === null ? "" : `, ${samplesPerSecond.toFixed(0)} samples/s`;
  return `${run.padEnd(16)} ${state}${speed}, at most ${peakMb.join(" and ")} MB a trainer: ${reason}`;
}
