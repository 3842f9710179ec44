import { beforeEach, expect, test } from "vitest";
import { recordedState, replayLog } from "../../../coordinator/decision-log.ts";
import { limits } from "../../../protocol/limits.ts";
import { type BenchWorker, CoordinatorBench, trainThrough } from "../../fixtures/coordinator-bench.ts";
import { exampleSpec } from "../../fixtures/messages.ts";
import { openMemoryStore } from "../../simulation/memory-store.ts";

const dayMs = 24 * 3_600_000;
let bench: CoordinatorBench;
let worker: BenchWorker;

beforeEach(async () => {
  bench = new CoordinatorBench();
  await bench.start();
  worker = await bench.worker(1);
});

const spec = (changes: object = {}) => exampleSpec({ workers: { min: 1, max: 1, spares: 0 }, ...changes });
async function register(): Promise<void> {
  await worker.beat(); // time may have passed since the last one
  await trainThrough(worker, (await bench.coordinator.submitJob(spec())).id);
}
const present = () => bench.coordinator.versions().map(({ version }) => version);
const look = () => bench.clock.advance(limits.retentionLookMs + 1_000);
const setRule = (keepLast: number, keepForDays: number | null = null) =>
  bench.coordinator.setRetentionRule({ name: "digits", keepLast, keepForDays });

test("a rule holds at once, for versions that come later, and for the next coordinator", async () => {
  for (let i = 0; i < 3; i++) await register();
  expect(await setRule(2)).toMatchObject({ presentCount: 2, keptCount: 0 });
  expect(present()).toEqual([2, 3]);
  await register();
  await look();
  expect(present()).toEqual([3, 4]);
  const { entries } = bench.coordinator.audit({ after: 0, limit: 1_000 });
  expect(entries.findLast(({ event }) => event.kind === "versions-removed")).toMatchObject({
    who: { kind: "coordinator" },
    event: { name: "digits", versions: [2] },
    reason: "keeps the newest 2 versions and what is needed: @2",
  });
  await bench.coordinator.close();
  bench.crash();
  const next = await bench.start();
  await worker.join();
  await register();
  await look();
  expect(next.versions().map(({ version }) => version)).toEqual([4, 5]);
  const store = openMemoryStore(bench.disk);
  expect(replayLog(store)).toEqual(recordedState(store));
  await next.removeRetentionRule("digits");
  await register();
  await look();
  expect(present()).toEqual([4, 5, 6]);
});

test("what is aliased, served, begun with or may be begun with again stays, says why, and goes when that ends", async () => {
  const { coordinator, clock } = bench;
  for (let i = 0; i < 5; i++) await register();
  await coordinator.moveAlias("digits", "champion", { version: 1 });
  await coordinator.deploy("digits", { version: 2, shards: 1, replicas: 1 });
  const waiting = await coordinator.submitJob(
    spec({ from: "digits@3", workers: { min: 9, max: 9, spares: 0 } }),
  );
  const given = await coordinator.submitJob(
    spec({ from: "digits@4", workers: { min: 9, max: 9, spares: 0 } }),
  );
  await coordinator.steerJob(given.id, "cancel");
  expect((await setRule(1)).kept).toEqual([
    { version: 1, reason: "champion points to it" },
    { version: 2, reason: "it is served" },
    { version: 3, reason: `${waiting.id} begins with it` },
    { version: 4, reason: `${given.id} begins with it, and may be tried again` },
  ]);
  await coordinator.removeAlias("digits", "champion");
  await coordinator.removeDeployment("digits");
  await look();
  expect(present()).toEqual([3, 4, 5]);
  await coordinator.steerJob(waiting.id, "cancel");
  clock.set(dayMs + 60_000);
  await look();
  expect(present()).toEqual([5]);
});

test("versions that are young stay for their days", async () => {
  const { clock, coordinator } = bench;
  await register();
  clock.set(2 * dayMs);
  await register();
  await register();
  const { kept } = await setRule(1, 3);
  expect(kept.map(({ version }) => version)).toEqual([1, 2]);
  expect(kept[0]!.reason).toMatch(/^it stays until 1970-01-04T/);
  clock.set(dayMs);
  await look();
  expect(present()).toEqual([2, 3]);
  expect(coordinator.retentionRules()).toMatchObject([{ name: "digits", presentCount: 2, keptCount: 1 }]);
});

test("of two who set a rule at once one is told", async () => {
  const { coordinator } = bench;
  await setRule(5);
  const seen = [coordinator.retentionRevision("digits")!];
  const both = [3, 4].map((keepLast) =>
    coordinator.setRetentionRule({ name: "digits", keepLast, keepForDays: null }, seen),
  );
  const outcomes = await Promise.allSettled(both);
  expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "rejected"]);
  await expect(coordinator.removeRetentionRule("digits", seen)).rejects.toThrowError(
    expect.objectContaining({ code: "PRECONDITION_FAILED" }),
  );
  expect(coordinator.retentionRule("digits").keepLast).toBe(3);
});
