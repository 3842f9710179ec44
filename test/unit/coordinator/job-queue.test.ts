import { expect, test } from "vitest";
import { recordedState, replayLog } from "../../../coordinator/decision-log.ts";
import { CoordinatorBench, trainThrough } from "../../fixtures/coordinator-bench.ts";
import { exampleSpec } from "../../fixtures/messages.ts";
import { openMemoryStore } from "../../simulation/memory-store.ts";

/** The queue in the real coordinator: durable, at once, and the same after a restart. */

const specOf = (min: number, max = min, changes: object = {}) =>
  exampleSpec({ workers: { min, max, spares: 0 }, ...changes });

async function lab(workerCount: number) {
  const bench = new CoordinatorBench();
  await bench.start();
  const workers = [];
  for (let index = 1; index <= workerCount; index++) workers.push(await bench.worker(index));
  return { bench, workers };
}

const states = (bench: CoordinatorBench) => bench.coordinator.jobs().map(({ state }) => state);

test("agents that a job lets go are the next one's at once, in the order of the queue", async () => {
  const { bench, workers } = await lab(1);
  for (let i = 0; i < 3; i++) await bench.coordinator.submitJob(specOf(1));
  await bench.coordinator.prioritiseJob("job-3", 7);
  await trainThrough(workers[0]!, "job-1");
  expect(workers[0]!.told.at(-1)).toBe("prepare job-3");
  await bench.coordinator.steerJob("job-3", "pause");
  await bench.settle();
  expect(workers[0]!.told.at(-1)).toBe("prepare job-2");
});

test("half a gang is not asked; with the last one the whole is", async () => {
  const { bench, workers } = await lab(1);
  await bench.coordinator.submitJob(specOf(2));
  await bench.coordinator.submitJob(specOf(1));
  expect(workers[0]!.told).toEqual([]); // a coordinator that has just started waits for who may come back
  await bench.clock.advance(15_000);
  await workers[0]!.beat();
  await bench.clock.advance(600);
  expect(workers[0]!.told).toEqual(["prepare job-2"]);
  expect(bench.coordinator.job("job-1").reason).toBe("waits for 1 more worker: 1 of 2 present");
  await bench.coordinator.steerJob("job-2", "cancel");
  workers.push(await bench.worker(2));
  await bench.settle();
  expect(workers.map(({ told }) => told.at(-1))).toEqual(["prepare job-1", "prepare job-1"]);
});

test("a job of lower priority gives its surplus at the next step boundary, to the one it is for", async () => {
  const { bench, workers } = await lab(2);
  await bench.coordinator.submitJob(specOf(1, 2));
  for (const worker of workers) await worker.report("ready", { jobId: "job-1" });
  await bench.coordinator.submitJob(specOf(1, 1, { priority: 6 }));
  await bench.settle();
  expect(bench.coordinator.job("job-2").reason).toBe("waits for 1 agent that job-1 gives back");
  expect(workers[0]!.told.at(-1)).toBe("quiesce 1");
  for (const worker of workers)
    await worker.report("ended", { jobId: "job-1", generation: 1, cause: "quiesced" });
  expect(workers.map(({ told }) => told.at(-1))).toEqual(["start 2", "prepare job-2"]);
  const granted = bench.coordinator.audit({ after: 0, limit: 100, job: "job-2" }).entries;
  expect(granted.map(({ event }) => event.kind)).toContain("job-granted");
});

test("priorities, quotas and places are the same after a restart, and the log replays to them", async () => {
  const { bench } = await lab(0);
  await bench.coordinator.setQuota({ project: "vision", agents: null, jobs: 0 });
  for (const project of ["vision", "default", "default"])
    await bench.coordinator.submitJob(specOf(1, 1, { project }));
  await bench.coordinator.prioritiseJob("job-3", 8);
  const before = bench.coordinator.jobs().map(({ reason, queuePosition }) => ({ reason, queuePosition }));
  expect(before.map(({ queuePosition }) => queuePosition)).toEqual([2, 3, 1]);
  await bench.coordinator.close();
  bench.crash();
  await bench.start();
  await bench.clock.advance(600);
  expect(bench.coordinator.jobs()).toMatchObject(before);
  expect(bench.coordinator.quotas()).toMatchObject([{ project: "vision", jobs: 0 }]);
  const store = openMemoryStore(bench.disk);
  expect(replayLog(store)).toEqual(recordedState(store));
  expect(states(bench)).toEqual(["waiting", "waiting", "waiting"]);
});
