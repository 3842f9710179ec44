import { readdir, readFile, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeAll, expect, test } from "vitest";
import { type ArtefactStore, openArtefactStore, sha256 } from "../../agent/artefact/store.ts";
import { markLifeMs } from "../../agent/data/preparation/preparation-mark.ts";
import type { DatasetDetail } from "../../protocol/messages/dataset.ts";
import { writeDigits } from "../fixtures/digit-images.ts";
import { loansCsv } from "../fixtures/loans.ts";
import { smallJob, useTestCluster } from "../fixtures/local-cluster.ts";
import { Randomness } from "../simulation/world/randomness.ts";
import { startRingfold } from "../unit/cli/ringfold-process.ts";

/** 24 chunks for training and 3 held out. */
const chunkCount = 27;
const cluster = useTestCluster(["agent-1", "agent-2"], { first: ["agent-1"] });
const folderOf = (name: string) => join(cluster.folder, name);
beforeAll(() => writeDigits(folderOf("digits"), { train: 16_000, test: 2_000 }), 60_000);

/** Looks into the store of an agent, which may be running: LMDB is safe across processes. */
async function withStore<T>(name: string, look: (store: ArtefactStore) => T | Promise<T>): Promise<T> {
  const store = openArtefactStore(join(folderOf(name), "artefacts"));
  try {
    return await look(store);
  } finally {
    await store.close();
  }
}
const partsOf = (store: ArtefactStore) => store.unlisted().length;
/** Resolves as soon as so many chunks lie in the store of an agent. */
const untilParts = (name: string, count: number) =>
  withStore(name, async (store) => {
    await expect.poll(() => partsOf(store), { interval: 1, timeout: 60_000 }).toBeGreaterThanOrEqual(count);
  });

/** `ringfold data add`, to be killed. Temporary files are in the cluster's folder. */
function beginToAdd(...args: string[]) {
  const env = { ...cluster.operatorEnv(), TMPDIR: cluster.folder };
  return startRingfold(["data", "add", ...args, "--agent", folderOf("agent-1")], { env });
}
const tableFolders = async () =>
  (await readdir(cluster.folder)).filter((name) => name.startsWith("ringfold-tables-"));

const seed = 7;
test(`data add, killed at any point (seed ${seed}): nothing is seen of it, and the next one goes on with what is there`, async () => {
  const random = new Randomness(seed);
  const points = Array.from({ length: 3 }, () => random.integer(1, chunkCount - 8)).toSorted((a, b) => a - b);
  for (const point of points) {
    const { child, outcome } = beginToAdd(folderOf("digits"));
    await untilParts("agent-1", point);
    child.kill("SIGKILL");
    await outcome;
    expect(await cluster.api().datasets()).toEqual([]);
    await withStore("agent-1", (store) => {
      expect(store.list()).toEqual([]);
      for (const part of store.unlisted()) expect(sha256(store.get(part))).toBe(part);
    });
  }
  const before = await withStore("agent-1", partsOf);
  expect(before).toBeLessThan(chunkCount);
  const { exitCode, stderr } = await beginToAdd(folderOf("digits")).outcome;
  expect(exitCode, stderr).toBe(0);
  expect(stderr).toContain(`${before} of ${chunkCount} chunks were here already`);
  const { manifest, digest } = await cluster.api().dataset("digits", 1);
  await withStore("agent-1", (store) => {
    expect(store.list()).toEqual([digest]);
    expect(store.unlisted()).toEqual(
      [...manifest.train.chunks, ...manifest.test.chunks].toSorted((a, b) => (a < b ? -1 : 1)),
    );
  });
  // Undisturbed it is the same, to the byte: the number stays.
  const again = await cluster.ringfold<DatasetDetail>(
    ...["data", "add", folderOf("digits"), "--agent", folderOf("agent-1")],
  );
  expect(again).toMatchObject({ version: 1, digest });
  const marks = await readdir(join(folderOf("agent-1"), "preparing")); // none of those that came to their end
  expect(marks.length).toBeLessThanOrEqual(points.length);
}, 180_000);

test("killed while it reads a table: its temporary files go with the next one", async () => {
  await writeFile(folderOf("loans.csv"), loansCsv(60_000));
  const args = [folderOf("loans.csv"), "--target", "repaid"];
  const { child, outcome } = beginToAdd(...args);
  await expect.poll(tableFolders, { interval: 5, timeout: 30_000 }).toHaveLength(1);
  child.kill("SIGKILL");
  await outcome;
  expect(await tableFolders()).toHaveLength(1);
  await beginToAdd(folderOf("loans.csv"), "--target", "nobody").outcome; // which is refused
  expect(await tableFolders()).toEqual([]);
}, 60_000);

test("what was killed and not begun again for a day is freed by the agent", async () => {
  await writeDigits(folderOf("others"), { train: 3_000, test: 500 });
  const { child, outcome } = beginToAdd(folderOf("others"));
  const held = chunkCount;
  await untilParts("agent-1", held + 1);
  child.kill("SIGKILL");
  await outcome;
  expect(await withStore("agent-1", partsOf)).toBeGreaterThan(held);
  const old = new Date(Date.now() - markLifeMs - 60_000);
  const marks = join(folderOf("agent-1"), "preparing");
  for (const name of await readdir(marks)) await utimes(join(marks, name), old, old);
  await cluster.processes.agent("agent-1").stop();
  await cluster.processes.startAgent("agent-1"); // it looks when it starts, and once a day
  await withStore("agent-1", (store) => expect.poll(() => partsOf(store), { timeout: 30_000 }).toBe(held));
  expect(await readdir(marks)).toEqual([]);
}, 90_000);

test("an agent that is killed while it fetches goes on with what it has, and has all whole in the end", async () => {
  await cluster.processes.startAgent("agent-2");
  const { id } = await cluster.api().submitJob(
    smallJob({
      ...{ name: "fetched", data: { source: "dataset", name: "digits" } },
      ...{
        workers: { min: 2, max: 2, spares: 0 },
        epochs: 1,
        batchSize: 256,
        checkpoint: { everySteps: 20 },
      },
    }),
  );
  await untilParts("agent-2", 5);
  await cluster.processes.agent("agent-2").kill();
  const before = await withStore("agent-2", (store) => store.unlisted());
  expect(before.length).toBeLessThan(chunkCount);
  await cluster.processes.startAgent("agent-2");
  const ended = await cluster.untilJob(id, ({ state }) => state === "succeeded" || state === "failed");
  expect(ended).toMatchObject({ state: "succeeded" });
  expect(ended.evaluation!.examples).toBe(2_000);
  await expect
    .poll(async () => (await cluster.api().datasets())[0]?.holders.length, { timeout: 30_000 })
    .toBe(2);
  await withStore("agent-2", (store) => {
    expect(partsOf(store)).toBe(chunkCount);
    for (const part of store.unlisted()) expect(sha256(store.get(part))).toBe(part);
  });
  const log = (await readFile(cluster.processes.logPath("agent-2"), "utf8")).split("\n");
  const ofThisLife = `"pid":${cluster.processes.agent("agent-2").pid},`;
  const fetched = log.filter((line) => line.includes("Fetched an artefact") && line.includes(ofThisLife));
  expect(fetched.length).toBeGreaterThan(0);
  for (const part of before) expect(fetched.filter((line) => line.includes(part))).toEqual([]);
}, 120_000);
