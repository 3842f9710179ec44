import { readFile } from "node:fs/promises";
import { expect, test } from "vitest";
import { DecisionLog, recordedState, replayLog } from "../../../coordinator/decision-log.ts";
import { collections } from "../../../coordinator/state.ts";
import { adoptStore, storeFormat } from "../../../coordinator/store/format.ts";
import { CoordinatorBench } from "../../fixtures/coordinator-bench.ts";
import { silentLog } from "../../fixtures/silent-log.ts";
import { FakeClock } from "../../simulation/fake-clock.ts";
import { type MemoryDisk, openMemoryStore } from "../../simulation/memory-store.ts";

/** What a coordinator of the first release (store format 1) has left: a job that is done and served, and one that runs. */
async function firstRelease(): Promise<MemoryDisk> {
  const path = new URL("../../fixtures/stores/format-1.json", import.meta.url);
  const entries = Object.entries(JSON.parse(await readFile(path, "utf8")) as Record<string, string>);
  const disk: MemoryDisk = new Map(entries.map(([key, value]) => [key, Buffer.from(value, "base64")]));
  return disk.set("meta/format", Buffer.from("1"));
}

test("a store of the first release becomes one of this, with all that it knew", async () => {
  const disk = await firstRelease();
  const told = [...disk.keys()].filter((key) => key.startsWith("event/")).length;
  const store = openMemoryStore(disk);
  await adoptStore(store, "here");
  expect([...store.list("event/")]).toEqual([]);
  expect(collections.jobs.readAll(store).map(({ id, state }) => [id, state])).toEqual([
    ["job-1", "succeeded"],
    ["job-2", "running"],
  ]);
  expect(replayLog(store)).toEqual(recordedState(store));
  const log = new DecisionLog({ store, clock: new FakeClock(), log: silentLog, term: 1 });
  expect(log.news()).toHaveLength(told);
  await adoptStore(store, "here");
  expect(log.page({ after: 0, sinceMs: 0, limit: 1_000 }).entries).toHaveLength(told);
});

test("a coordinator of this release goes on where the first one stopped", async () => {
  const bench = new CoordinatorBench();
  for (const [key, value] of await firstRelease()) bench.disk.set(key, value);
  const store = openMemoryStore(bench.disk);
  await adoptStore(store, "here");
  await bench.start(store);
  expect(bench.coordinator.view()).toMatchObject({
    coordinator: { term: 2 },
    versions: [{ name: "digits", version: 1 }],
    deployments: [{ name: "digits", live: true }],
  });
  await bench.coordinator.steerJob("job-2", "cancel");
  expect(replayLog(store)).toEqual(recordedState(store));
});

test.each([String(storeFormat + 1), "banana", "0", "1.5"])(
  "format %s is refused, and nothing is written",
  async (format) => {
    const disk: MemoryDisk = new Map([["meta/format", Buffer.from(format)]]);
    const code = format === String(storeFormat + 1) ? "STORE_NEWER" : "STORE_FAILED";
    await expect(adoptStore(openMemoryStore(disk), "here")).rejects.toMatchObject({ code });
    expect([...disk.keys()]).toEqual(["meta/format"]);
  },
);
