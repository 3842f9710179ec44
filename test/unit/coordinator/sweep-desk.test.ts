import { expect, test } from "vitest";
import { recordedState, replayLog } from "../../../coordinator/decision-log.ts";
import { sweepSpecSchema } from "../../../protocol/sweep-spec.ts";
import { type BenchWorker, CoordinatorBench, trainThrough } from "../../fixtures/coordinator-bench.ts";
import { digestOf, exampleSpec } from "../../fixtures/messages.ts";
import { SweepBench } from "../../fixtures/sweep-bench.ts";
import { openMemoryStore } from "../../simulation/memory-store.ts";

const { workers: _, ...job } = exampleSpec();
const sweepOf = (search: object) => sweepSpecSchema.parse({ ...job, epochs: 4, search });
const values = (...all: number[]) => ({ "optimizer.learningRate": { values: all } });
const lookAroundMs = 600;

async function lab(workerCount: number): Promise<{ bench: CoordinatorBench; workers: BenchWorker[] }> {
  const bench = new CoordinatorBench();
  await bench.start();
  const workers: BenchWorker[] = [];
  for (let index = 1; index <= workerCount; index++) workers.push(await bench.worker(index));
  return { bench, workers };
}

const evaluation = (loss: number) => ({ examples: 10, loss, accuracy: null, metrics: {} });

test("one trial an agent; a job of an operator that waits goes before the next trial", async () => {
  const { bench, workers } = await lab(2);
  await bench.coordinator.submitSweep(sweepOf({ method: "grid", space: values(1, 2, 3) }));
  expect(workers.map(({ told }) => told)).toEqual([["prepare job-1"], ["prepare job-2"]]);
  await bench.coordinator.submitJob(exampleSpec({ workers: { min: 1, max: 1, spares: 0 } }));
  await trainThrough(workers[0]!, "job-1");
  await bench.clock.advance(lookAroundMs);
  expect(workers[0]!.told.at(-1)).toBe("prepare job-3");
  expect(bench.coordinator.sweep("sweep-1").trials.map(({ state }) => state)).toEqual([
    "succeeded",
    "running",
    "waiting",
  ]);
  await trainThrough(workers[1]!, "job-2");
  await bench.clock.advance(lookAroundMs);
  expect(bench.coordinator.job("job-4").trial).toEqual({ sweep: "sweep-1", number: 3 });
  await trainThrough(workers[1]!, "job-4");
  await bench.clock.advance(lookAroundMs);
  const { state, version, best } = bench.coordinator.sweep("sweep-1");
  expect({ state, version, best }).toMatchObject({
    state: "succeeded",
    best: { number: 1 },
    version: "digits@1",
  });
  expect(bench.coordinator.version("digits", 1).manifest.lineage.jobId).toBe("job-1");
  // What the sweep was submitted with, which is not what the job beside it was.
  const { edges } = bench.coordinator.lineage("digits", 1);
  expect(edges.filter(({ from }) => from.startsWith("config"))).toEqual([
    { from: "config:digits@1", to: "sweep:sweep-1", relation: "configured" },
  ]);
  expect(bench.coordinator.document("config", "digits", 1).content).toHaveProperty("search.method", "grid");
  expect([1, 2, 3, 4].map((number) => bench.coordinator.job(`job-${number}`).config)).toEqual([
    ...["digits@1", "digits@1", "digits@2", "digits@1"],
  ]);
});

test("a coordinator that starts anew again and again comes to the same sweep, and its log to the same state", async () => {
  const { bench, workers } = await lab(1);
  const worker = workers[0]!;
  const again = async () => {
    await bench.coordinator.close(); // or its clock would go on
    bench.crash();
    await bench.start();
    await worker.join();
    await bench.clock.advance(lookAroundMs);
  };
  const search = { method: "halving", trials: 2, reduction: 2, minEpochs: 2, space: values(1, 2) };
  await bench.coordinator.submitSweep(sweepOf(search));
  for (const [jobId, loss] of [
    ["job-1", 0.5],
    ["job-2", 0.4],
  ] as const) {
    await again();
    await worker.report("ready", { jobId });
    const at = { jobId, generation: 1, point: { step: 2, hash: digestOf("a") } };
    await worker.report("checkpoint", at);
    await worker.report("ended", { ...at, cause: "quiesced", evaluation: evaluation(loss) });
    await again();
  }
  expect(bench.coordinator.sweep("sweep-1").trials).toMatchObject([
    { state: "stopped", value: 0.5, reason: "loss 0.5 after step 2: others are better" },
    { state: "running", value: 0.4, rung: 1 },
  ]);
  expect(bench.coordinator.job("job-1")).toMatchObject({ state: "cancelled" });
  await worker.report("ready", { jobId: "job-2", point: { step: 2, hash: digestOf("a") } });
  await worker.report("finished", { jobId: "job-2", generation: 2 });
  await again();
  expect(bench.coordinator.sweep("sweep-1")).toMatchObject({ state: "succeeded", best: { number: 2 } });
  expect(bench.coordinator.view().jobs).toHaveLength(2);
  const store = openMemoryStore(bench.disk);
  expect(replayLog(store)).toEqual(recordedState(store));
});

test("cancelled, it ends its trials and leaves other jobs alone", async () => {
  const { bench } = await lab(2);
  await bench.coordinator.submitJob(exampleSpec({ workers: { min: 1, max: 1, spares: 0 } }));
  await bench.coordinator.submitSweep(sweepOf({ method: "grid", space: values(1, 2, 3) }));
  await bench.coordinator.cancelSweep("sweep-1");
  await bench.clock.advance(lookAroundMs);
  expect(bench.coordinator.view().jobs.map(({ state }) => state)).toEqual(["preparing", "cancelled"]);
});

test("a sweep from an alias begins with the version that it pointed to, which stays while trials need it", async () => {
  const { bench, workers } = await lab(1);
  const worker = workers[0]!;
  await bench.coordinator.submitJob(exampleSpec({ workers: { min: 1, max: 1, spares: 0 } }));
  await trainThrough(worker, "job-1");
  await bench.coordinator.moveAlias("digits", "production", { version: 1 });
  const search = { method: "grid", space: values(1, 2) };
  await bench.coordinator.submitSweep(
    sweepSpecSchema.parse({ ...job, epochs: 4, from: "digits@production", search }),
  );
  expect(bench.coordinator.job("job-2").spec.from).toBe("digits@1");
  await bench.coordinator.removeAlias("digits", "production");
  await bench.coordinator.steerJob("job-2", "cancel");
  await expect(bench.coordinator.removeVersion("digits", 1)).rejects.toMatchObject({
    code: "CONFLICT",
    message: expect.stringContaining("begin"),
  });
  await bench.coordinator.cancelSweep("sweep-1");
  await bench.clock.advance(lookAroundMs);
  await bench.coordinator.removeVersion("digits", 1);
});

test("what the best trial came to cannot be pruned before it is registered", async () => {
  const { bench, workers } = await lab(1);
  await bench.coordinator.submitSweep(sweepOf({ method: "grid", space: values(1, 2) }));
  await trainThrough(workers[0]!, "job-1");
  await expect(bench.coordinator.removeVersion("digits-trial-1", 1)).rejects.toMatchObject({
    message: expect.stringContaining("trial 1 of sweep-1"),
  });
});

test("a trial that cannot be submitted fails with the reason, and the others go on", async () => {
  const bench = new SweepBench({ method: "grid", space: values(1, 2) }, 2);
  bench.tick(false);
  bench.decide({ kind: "refused", trials: [{ number: 1, reason: "NOT_FOUND: digits@1 was removed" }] });
  expect(bench.sweep.trials).toMatchObject([
    { state: "failed", reason: "NOT_FOUND: digits@1 was removed" },
    { state: "running" },
  ]);
  expect(bench.news).toContain("trial 1 failed: NOT_FOUND: digits@1 was removed");
});

test("a sweep from a version that is not there is refused, and leaves nothing", async () => {
  const { bench } = await lab(1);
  const spec = sweepSpecSchema.parse({
    ...job,
    from: "digits@9",
    search: { method: "grid", space: values(1) },
  });
  await expect(bench.coordinator.submitSweep(spec)).rejects.toMatchObject({ code: "NOT_FOUND" });
  expect(bench.coordinator.view()).toMatchObject({ sweeps: [], jobs: [] });
});
