import { expect, test } from "vitest";
import { asRestored } from "../../../coordinator/decide/restored.ts";
import { collections } from "../../../coordinator/state.ts";
import { type BenchWorker, CoordinatorBench } from "../../fixtures/coordinator-bench.ts";
import { exampleSpec } from "../../fixtures/messages.ts";
import { openMemoryStore } from "../../simulation/memory-store.ts";

test("a job that was not over is formed anew from what its agents say, in a generation that nobody has heard of", async () => {
  const bench = new CoordinatorBench();
  await bench.start();
  const workers = [await bench.worker(1), await bench.worker(2)] as [BenchWorker, BenchWorker];
  const spec = exampleSpec({ workers: { min: 2, max: 2, spares: 0 } });
  const { id } = await bench.coordinator.submitJob(spec);
  for (const worker of workers) await worker.report("ready", { jobId: id });
  expect(workers[0].plan?.generation).toBe(1);
  bench.crash();
  const store = openMemoryStore(bench.disk);
  await store.write([collections.jobs.put(id, asRestored(collections.jobs.read(store, id)!))]);
  for (const worker of workers) worker.told.length = 0;
  await bench.start();
  for (const worker of workers) await worker.join();
  await bench.clock.advance(2_000);
  for (const worker of workers) expect(worker.told).toEqual([`prepare ${id}`]);
  for (const worker of workers) await worker.report("ready", { jobId: id });
  expect(workers[0].plan?.generation).toBe(1_000_002);
  expect(bench.coordinator.job(id).state).toBe("running");
});
