import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { newJob } from "../../coordinator/decide/job-record.ts";
import type { VersionRecord } from "../../coordinator/decide/version.ts";
import { collections, padded } from "../../coordinator/state.ts";
import { openLmdbStore } from "../../coordinator/store/lmdb-store.ts";
import { callList, callRoute, openEvents } from "../../protocol/api/client.ts";
import { Coordinators } from "../../protocol/api/coordinators.ts";
import { jobSpecSchema } from "../../protocol/job-spec.ts";
import type { LayerDescription } from "../../protocol/messages/model.ts";
import type { StoreWrite } from "../../protocol/ports.ts";
import { readEventStream } from "../commands/follow/event-stream.ts";
import { type RunningCoordinator, runCoordinator } from "../run/run-coordinator.ts";
import { parseBenchOptions, runBench } from "./bench-program.ts";

/**
 * What long lists cost: a coordinator with its real store, API and sockets, which was given so many versions and jobs, and one
 * client on the same machine. Told are the times until all pages have come (`bytes`), until the typed client has validated
 * them all as well (`typed`), of the first page of 100, and of the last page of 1,000 once it is known (304). Medians.
 */
interface Row {
  readonly list: "models" | "jobs";
  readonly items: number;
  readonly bytes: number;
  readonly firstPageMs: number;
  readonly allMs: number;
  /** Processor time of the same, server and client together: what is left of it where others work too. */
  readonly allCpuMs: number;
  readonly typedMs: number;
  readonly unchangedMs: number;
}

interface Options {
  readonly versions: number;
  readonly jobs: number;
  readonly rounds: number;
}

const digestOf = (text: string): string => createHash("sha256").update(text).digest("hex");
const beginningMs = Date.UTC(2026, 10, 23);

const wallMs = () => performance.now();
const cpuMs = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
};

await runBench(async () => {
  const options = parseBenchOptions<Options>("bench:lists", (command) =>
    command
      .option("--versions <n>", "of 100 models", Number, 10_000)
      .option("--jobs <n>", "that have ended", Number, 1_000)
      .option("--rounds <n>", "of which the median is told", Number, 15),
  );
  if (options) await run(options);
});

async function run(options: Options & { readonly json: boolean }): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "ringfold-lists-"));
  const silent = () => {};
  try {
    await fill(join(folder, "store"), options);
    const coordinator = await runCoordinator(
      {
        ...{ dataPath: folder, clusterName: "bench", listen: { host: "127.0.0.1", port: 0 } },
        http: { host: "127.0.0.1", port: 0 },
      },
      { debug: silent, info: silent, warn: silent, error: silent },
    );
    try {
      const rows = [
        await measure(coordinator.httpUrl, "models", options.rounds),
        await measure(coordinator.httpUrl, "jobs", options.rounds),
      ];
      const cluster = await measureCluster(coordinator, options.rounds);
      const residentMB = Math.round(process.memoryUsage.rss() / 1e6);
      if (options.json)
        process.stdout.write(`${JSON.stringify({ ...options, residentMB, rows, cluster })}\n`);
      else {
        for (const row of rows) process.stdout.write(`${lineOf(row)}\n`);
        const { bytes, ms, changeBytes, changeMs, changeCpuMs } = cluster;
        process.stdout.write(`everything at once: ${(bytes / 1e6).toFixed(1)} MB in ${ms.toFixed(0)} ms\n`);
        process.stdout.write(
          `an event after a change: ${changeBytes} bytes in ${changeMs.toFixed(0)} ms (processor: ${changeCpuMs.toFixed(0)} ms)\n`,
        );
      }
    } finally {
      await coordinator.close();
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function lineOf({ list, items, bytes, firstPageMs, allMs, allCpuMs, typedMs, unchangedMs }: Row): string {
  return (
    `${list}: ${items} items, ${(bytes / 1e6).toFixed(1)} MB in ${allMs.toFixed(0)} ms (processor: ${allCpuMs.toFixed(0)} ms), validated in ` +
    `${typedMs.toFixed(0)} ms; the first hundred in ${firstPageMs.toFixed(1)} ms, a known page in ${unchangedMs.toFixed(1)} ms`
  );
}

async function measure(baseUrl: string, list: Row["list"], rounds: number): Promise<Row> {
  const connection = { coordinators: new Coordinators(baseUrl), signal: new AbortController().signal };
  const page = async (query: string, headers: Record<string, string> = {}) => {
    const answer = await fetch(`${baseUrl}/api/${list}${query}`, { headers });
    const text = await answer.text();
    const next = answer.status === 304 ? null : (JSON.parse(text) as { next: string | null }).next;
    return { next, bytes: text.length, tag: answer.headers.get("etag")!, query };
  };
  const all = async () => {
    let bytes = 0;
    for (let cursor = ""; ; ) {
      const got = await page(`?limit=1000${cursor}`);
      bytes += got.bytes;
      if (got.next === null) return { bytes, last: got };
      cursor = `&cursor=${got.next}`;
    }
  };
  const { bytes, last } = await all();
  const items = (await callList(connection, list)).length;
  return {
    ...{ list, items, bytes },
    firstPageMs: await median(rounds, () => page("")),
    allMs: await median(rounds, all),
    allCpuMs: await median(rounds, all, cpuMs),
    typedMs: await median(rounds, () => callList(connection, list)),
    unchangedMs: await median(rounds, () => page(last.query, { "if-none-match": last.tag })),
  };
}

/** What `/api/events` costs a page that is open: everything once, and a change of one version. From the request to the whole event. */
async function measureCluster(coordinator: RunningCoordinator, rounds: number) {
  const { httpUrl: baseUrl, operatorToken } = coordinator;
  const closed = new AbortController();
  const connection = { coordinators: new Coordinators(baseUrl), operatorToken, signal: closed.signal };
  const whole = async () => (await (await fetch(`${baseUrl}/api/cluster`)).text()).length;
  const events = readEventStream(await openEvents(connection, "clusterEvents", {}));
  const bytes = (await events.next()).value!.data.length;
  const changeBytes: number[] = [];
  const change = async () => {
    const version = 1 + (changeBytes.length % 2);
    await callRoute(connection, "moveAlias", { name: "model-0", alias: "champion", body: { version } });
    changeBytes.push((await events.next()).value!.data.length);
  };
  const [wholeMs, changeMs] = [await median(rounds, whole), await median(rounds, change)];
  const changeCpuMs = await median(rounds, change, cpuMs);
  closed.abort();
  return { bytes, ms: wholeMs, changeBytes: Math.max(...changeBytes.slice(1)), changeMs, changeCpuMs };
}

async function median(rounds: number, work: () => Promise<unknown>, nowMs = wallMs): Promise<number> {
  const times: number[] = [];
  for (let i = 0; i < rounds; i++) {
    const startedMs = nowMs();
    await work();
    times.push(nowMs() - startedMs);
  }
  return times.toSorted((a, b) => a - b)[Math.floor(rounds / 2)]!;
}

async function fill(path: string, { versions, jobs }: Options): Promise<void> {
  const store = await openLmdbStore(path);
  const writes: StoreWrite[] = [];
  for (let i = 0; i < versions; i++) {
    const record = versionRecord(`model-${i % 100}`, Math.floor(i / 100) + 1);
    writes.push(collections.versions.put(`${record.manifest.name}/${padded(record.version)}`, record));
  }
  for (let i = 1; i <= jobs; i++) writes.push(collections.jobs.put(`job-${i}`, endedJob(i)));
  writes.push(collections.counters.put("job", jobs));
  for (let i = 0; i < writes.length; i += 500) await store.write(writes.slice(i, i + 500));
  await store.close();
}

/** As a small perceptron has it. */
function versionRecord(name: string, version: number): VersionRecord {
  const layers: LayerDescription[] = [128, 64, 10].map((width, i) => ({
    ...{ name: `dense_${i}`, kind: "Dense", outputShape: [width] },
    ...{ parameterCount: width * 100, multiplyAdds: width * 100 },
  }));
  const manifest = {
    ...({ format: 1, name, createdAtMs: beginningMs + version } as const),
    model: { topology: {}, inputShape: [784], outputShape: [10], parameterCount: 20_200, layers },
    weights: { digest: digestOf(`${name}@${version}`), bytes: 80_800, format: "safetensors" as const },
    lineage: {
      ...{ jobId: `job-${version}`, dataDigest: digestOf("data"), seed: 1, steps: 938 },
      ...{ parameterHash: digestOf("state"), generations: 1, peers: [], engines: ["wasm"], release: "0.1.0" },
    },
    metrics: { accuracy: 0.97, loss: 0.1, further: {}, testExamples: 10_000 },
  };
  return {
    version,
    digest: digestOf(JSON.stringify(manifest)),
    manifest,
    removedAtMs: null,
    deployments: [],
  };
}

/** With 20 evaluations on the way. */
function endedJob(number: number) {
  const spec = jobSpecSchema.parse({
    ...{ name: `job-of-${number % 100}`, model: { architecture: "mlp", hidden: [128, 64] } },
    data: { source: "mnist" },
  });
  const atMs = beginningMs + number;
  return {
    ...newJob(`job-${number}`, spec, atMs),
    ...{ state: "succeeded" as const, reason: "trained", startedAtMs: atMs, endedAtMs: atMs + 60_000 },
    evaluations: Array.from({ length: 20 }, (_, i) => ({
      ...{ step: 50 * i, loss: 1 / (i + 1), accuracy: 1 - 1 / (i + 2), examples: 10_000, metrics: {} },
    })),
  };
}
