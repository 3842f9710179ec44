import { beforeEach, expect, test } from "vitest";
import { limits } from "../../../protocol/limits.ts";
import { holdArtefacts } from "../../../protocol/messages/artefact.ts";
import { type BenchWorker, CoordinatorBench, trainThrough } from "../../fixtures/coordinator-bench.ts";
import { exampleSpec } from "../../fixtures/messages.ts";

const alone = exampleSpec({ workers: { min: 1, max: 1, spares: 0 } });
let bench: CoordinatorBench;
let worker: BenchWorker;
/** Jobs whose checkpoints the worker was told to free. */
let freed: string[];

beforeEach(async () => {
  bench = new CoordinatorBench();
  await bench.start();
  worker = await bench.worker(1);
  freed = [];
  worker.network.handle(holdArtefacts, async ({ checkpoints }) => {
    freed = checkpoints;
    return { ok: true };
  });
});

/** A look around, after so long without a coordinator: a day of looks would take a minute here. */
async function pass(awayMs = 0): Promise<void> {
  if (awayMs > 0) {
    await bench.coordinator.close();
    bench.crash();
    await bench.clock.advance(awayMs);
    await bench.start();
    await worker.join();
  }
  await worker.beat();
  await bench.clock.advance(1_000);
}

async function trainPart(): Promise<string> {
  const { id } = await bench.coordinator.submitJob(alone);
  await worker.report("ready", { jobId: id });
  await worker.report("checkpoint", { jobId: id, generation: 1 });
  return id;
}

test("of a job that has its version they go at once; the next coordinator says it again", async () => {
  const { id } = await bench.coordinator.submitJob(alone);
  await trainThrough(worker, id);
  await pass();
  expect(freed).toEqual([id]);
  expect(bench.coordinator.job(id).checkpoints).toHaveLength(1); // what there was stays to be seen
  freed = [];
  await pass();
  expect(freed).toEqual([]);
  await pass(1_000);
  expect(freed).toEqual([id]);
});

test("a cancelled job may be tried again for a day; after that it begins anew", async () => {
  const id = await trainPart();
  await bench.coordinator.steerJob(id, "cancel");
  await pass(limits.checkpointsKeptMs - 10_000);
  expect(freed).toEqual([]);
  expect(bench.coordinator.job(id).checkpoints).toHaveLength(1);
  await pass(20_000);
  expect(freed).toEqual([id]);
  expect(bench.coordinator.job(id).checkpoints).toEqual([]);
  await bench.coordinator.steerJob(id, "retry");
  await pass();
  expect(worker.told.at(-1)).toBe(`prepare ${id}`); // it waits for nobody who had it
});

test("what is paused keeps them", async () => {
  const id = await trainPart();
  await bench.coordinator.steerJob(id, "pause");
  await pass(2 * limits.checkpointsKeptMs);
  expect(freed).toEqual([]);
});
