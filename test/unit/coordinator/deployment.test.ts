import { beforeEach, expect, test } from "vitest";
import { CoordinatorBench, trainThrough } from "../../fixtures/coordinator-bench.ts";
import { exampleSpec } from "../../fixtures/messages.ts";

let bench: CoordinatorBench;
beforeEach(async () => {
  bench = new CoordinatorBench();
  await bench.start();
  const worker = await bench.worker(1);
  for (const jobId of ["job-1", "job-2"]) {
    await bench.coordinator.submitJob(exampleSpec({ workers: { min: 1, max: 1, spares: 0 } }));
    await trainThrough(worker, jobId);
  }
  await bench.coordinator.deploy("digits", { version: 1, shards: 1, replicas: 1 });
  await bench.settle();
  await worker.loadShards();
});

const deploy = (version: number) => bench.coordinator.deploy("digits", { version, shards: 1, replicas: 1 });
const all = () =>
  bench.coordinator.deployments().map(({ deployment, version, live }) => ({ deployment, version, live }));
const lastDecision = () => bench.coordinator.audit({ after: 0, limit: 1 }).last;

test("the same order again changes nothing, also while what it has asked for loads", async () => {
  await deploy(2);
  const before = lastDecision();
  expect(await deploy(2)).toMatchObject({ deployment: 2, version: 2, live: false });
  expect(lastDecision()).toBe(before);
  expect(all()).toEqual([
    { deployment: 1, version: 1, live: true },
    { deployment: 2, version: 2, live: false },
  ]);
});

test("another order while one loads takes its place", async () => {
  await deploy(2);
  await bench.coordinator.deploy("digits", { version: 2, shards: 2, replicas: 1 });
  expect(all().map(({ deployment }) => deployment)).toEqual([1, 3]);
});

test("an order for what is live gives up what was about to replace it", async () => {
  await deploy(2);
  expect(await deploy(1)).toMatchObject({ deployment: 1, version: 1, live: true });
  expect(all()).toEqual([{ deployment: 1, version: 1, live: true }]);
  expect(bench.coordinator.view().events.at(-1)!.message).toBe(
    "stays with digits@1; digits@2 is given up before it was ready",
  );
});
