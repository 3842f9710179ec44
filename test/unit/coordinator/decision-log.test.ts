import { expect, test } from "vitest";
import type { Decision } from "../../../coordinator/decide/decision.ts";
import { DecisionLog, recordedState, replayLog } from "../../../coordinator/decision-log.ts";
import { collections } from "../../../coordinator/state.ts";
import { limits } from "../../../protocol/limits.ts";
import type { Store } from "../../../protocol/ports.ts";
import { silentLog } from "../../fixtures/silent-log.ts";
import { FakeClock } from "../../simulation/fake-clock.ts";
import { openMemoryStore } from "../../simulation/memory-store.ts";

const openLog = (store: Store, kept?: number) =>
  new DecisionLog({ store, clock: new FakeClock(), log: silentLog, term: 3, ...(kept && { kept }) });

const decision = (reason: string, more: Partial<Decision> = {}): Decision => ({
  who: { kind: "operator" },
  subject: "job-1 digits",
  event: { kind: "job-submitted", jobId: "job-1" },
  isNews: true,
  ...more,
  reason,
});
const counting = (value: number) => [collections.counters.put("job", value)];
const everything = { after: 0, sinceMs: 0, limit: 1_000 };

test("a decision says who, what, when and why, and which fields of which record it changed", async () => {
  const store = openMemoryStore();
  const log = openLog(store);
  await log.commit(decision("first"), counting(1));
  await log.commit(decision("second", { isNews: false }), counting(1));
  await log.commit(decision("third"), [collections.counters.remove("job")]);
  expect(log.page(everything)).toMatchObject({
    ...{ next: 3, last: 3 },
    entries: [
      {
        sequence: 1,
        term: 3,
        who: { kind: "operator" },
        reason: "first",
        decision: [{ record: "+counter/job" }],
      },
      { sequence: 2, decision: [] },
      { sequence: 3, decision: [{ record: "-counter/job" }] },
    ],
  });
  expect(log.news().map(({ message }) => message)).toEqual(["first", "third"]);
});

test("a page begins after what the reader has, and holds one job where one is asked for", async () => {
  const log = openLog(openMemoryStore());
  for (let i = 1; i <= 4; i++)
    await log.commit(decision(`${i}`, { event: { kind: "job-submitted", jobId: `job-${i % 2}` } }), []);
  const sequences = (query: object) =>
    log.page({ ...everything, ...query }).entries.map(({ sequence }) => sequence);
  expect(sequences({ after: 2 })).toEqual([3, 4]);
  expect(sequences({ job: "job-1" })).toEqual([1, 3]);
  expect(sequences({ sinceMs: 1e15 })).toEqual([]);
  expect(log.page({ ...everything, limit: 2 })).toMatchObject({ next: 2, last: 4 });
});

test("what is told goes on after a restart", async () => {
  const store = openMemoryStore();
  await openLog(store).commit(decision("first"), counting(1));
  const again = openLog(store);
  expect(again.news().map(({ message }) => message)).toEqual(["first"]);
  await again.commit(decision("second"), counting(2));
  expect(again.page(everything).entries.map(({ sequence }) => sequence)).toEqual([1, 2]);
});

test("the log is bounded: old decisions go over into the snapshot, and replaying comes to the same state", async () => {
  const store = openMemoryStore();
  const log = openLog(store, 10);
  for (let i = 1; i <= 200; i++) {
    await log.commit(decision(`${i}`), [
      collections.counters.put(`of-${i % 7}`, i),
      ...(i % 5 === 0 ? [collections.counters.remove(`of-${(i + 3) % 7}`)] : []),
    ]);
    expect(replayLog(store)).toEqual(recordedState(store));
  }
  expect([...store.list("decision/")].length).toBeLessThanOrEqual(10 + 16);
  const [first] = log.page(everything).entries;
  expect(first!.sequence).toBe(200 - [...store.list("decision/")].length + 1);
  expect(openLog(store, 10).news()).toEqual(log.news().filter(({ sequence }) => sequence >= first!.sequence));
});

test("no write that goes over into the snapshot is larger than a store takes, whatever decisions changed", async () => {
  const disk = openMemoryStore();
  const sizes: number[] = [];
  const measured: Store = {
    ...disk,
    write: (writes) => {
      sizes.push(writes.length);
      return disk.write(writes);
    },
  };
  const log = openLog(measured, 5);
  const records = (count: number) =>
    Array.from({ length: count }, (_, i) => collections.counters.put(`of-${i}`, count));
  for (let i = 1; i <= 60; i++) {
    const count = i % 3 === 0 ? limits.storeWritesMax - 3 : 40;
    await log.commit(decision(`${i}`), records(count + (i % 2)));
  }
  expect(Math.max(...sizes)).toBeLessThanOrEqual(limits.storeWritesMax);
  expect([...disk.list("decision/")].length).toBeLessThanOrEqual(5 + 16);
  expect(replayLog(disk)).toEqual(recordedState(disk));
});

test("people are told of the newest only", async () => {
  const log = openLog(openMemoryStore());
  for (let i = 1; i <= limits.eventsKeptMax + 20; i++) await log.commit(decision(`${i}`), []);
  expect(log.news()).toHaveLength(limits.eventsKeptMax);
  expect(log.news().at(-1)).toMatchObject({ sequence: limits.eventsKeptMax + 20 });
});

test("what is not on disk was not decided: not told, not numbered", async () => {
  const disk = openMemoryStore();
  let failing = false;
  const log = openLog({
    ...disk,
    write: async (writes) => {
      if (failing) throw new Error("no space left");
      await disk.write(writes);
    },
  });
  failing = true;
  await expect(log.commit(decision("lost"), counting(1))).rejects.toThrow("no space left");
  failing = false;
  await log.commit(decision("kept"), counting(1));
  expect(log.page(everything).entries).toMatchObject([{ sequence: 1, reason: "kept" }]);
});

test("a hole in the log is named", async () => {
  const store = openMemoryStore();
  const log = openLog(store);
  for (let i = 1; i <= 3; i++) await log.commit(decision(`${i}`), counting(i));
  await store.write([collections.decisions.remove("000000002")]);
  expect(() => replayLog(store)).toThrow(expect.objectContaining({ code: "STORE_FAILED" }));
  expect(() => openLog(store)).toThrow(expect.objectContaining({ code: "STORE_FAILED" }));
});

test("secrets and loss curves stay out of the log", async () => {
  const store = openMemoryStore();
  await openLog(store).commit(decision("over"), [collections.curves.put("job-1", [])]);
  expect(openLog(store).page(everything).entries[0]!.decision).toEqual([]);
  expect(collections.curves.read(store, "job-1")).toEqual([]);
});
