import { beforeEach, expect, test } from "vitest";
import { type BenchWorker, CoordinatorBench, trainThrough } from "../../fixtures/coordinator-bench.ts";
import { exampleSpec } from "../../fixtures/messages.ts";

let bench: CoordinatorBench;
let workers: [BenchWorker, BenchWorker, BenchWorker];
beforeEach(async () => {
  bench = new CoordinatorBench();
  await bench.start();
  workers = [await bench.worker(1), await bench.worker(2), await bench.worker(3)];
});

/** Seconds in which these are heard and the others are not. */
async function pass(seconds: number, heard: readonly BenchWorker[] = []): Promise<void> {
  for (let second = 0; second < seconds; second++) {
    await bench.clock.advance(1_000);
    for (const worker of heard) await worker.beat();
  }
}

const deployment = () => bench.coordinator.view().deployments[0]!;
const reasons = () => bench.coordinator.audit({ after: 0, limit: 500 }).entries.map(({ reason }) => reason);

async function serve(): Promise<void> {
  const [one, two] = workers;
  await bench.coordinator.submitJob(exampleSpec({ workers: { min: 1, max: 1, spares: 0 } }));
  await trainThrough(one, "job-1");
  await bench.coordinator.deploy("digits", { version: 1, shards: 1, replicas: 2 });
  await bench.settle();
  for (const worker of [one, two]) await worker.loadShards();
  expect(deployment().state).toBe("ready");
}

test("serving keeps its tables while the coordinator hears nobody, and the log says why", async () => {
  await serve();
  await pass(10, workers);
  const before = deployment().shards;
  await pass(120);
  expect(deployment().shards).toEqual(before);
  await pass(1, workers);
  expect(workers.map(({ placements }) => placements[0]!.shards)).toEqual([before, before, before]);
  expect(reasons()).toContain(
    "3 of 3 members have fallen silent together: the coordinator takes that for its own trouble, and gives none of them up",
  );
  expect(reasons().some((reason) => reason.includes("placed anew"))).toBe(false);
  await pass(12, workers);
  expect(reasons().at(-1)).toBe(
    "the coordinator hears most of its members again, or has waited for them long enough",
  );
});

test("a socket that is given up while nobody is heard moves no replica, before anybody is suspected", async () => {
  await serve();
  await pass(10, workers);
  const before = deployment().shards.map(({ replicas }) => replicas.map(({ peerId }) => peerId));
  await bench.clock.advance(3_001); // no look has seen it yet
  workers[1].crash();
  await bench.clock.advance(1_000);
  expect(deployment().shards.map(({ replicas }) => replicas.map(({ peerId }) => peerId))).toEqual(before);
  expect(bench.coordinator.peers()[1]!.state).toBe("suspect");
});

test("a ring trains on with the same generation while the coordinator hears nobody, or stands still", async () => {
  const { id } = await bench.coordinator.submitJob(exampleSpec({ workers: { min: 2, max: 3, spares: 0 } }));
  for (const worker of workers) await worker.report("ready", { jobId: id });
  await pass(10, workers);
  await pass(60);
  await pass(5, workers);
  bench.clock.stall(60_000);
  await pass(5, workers);
  expect(bench.coordinator.job(id)).toMatchObject({ state: "running", generations: [{ generation: 1 }] });
  expect(workers.map(({ told }) => told.length)).toEqual([2, 2, 2]); // prepare and start
});

test("who stays away when the others are heard again is replaced", async () => {
  await serve();
  await pass(10, workers);
  await pass(30);
  const [one, two, three] = workers;
  await pass(15, [two, three]);
  const hosts = deployment().shards.flatMap(({ replicas }) => replicas.map(({ peerId }) => peerId));
  expect(new Set(hosts)).toEqual(new Set([two.peerId, three.peerId]));
  expect(reasons().some((reason) => /worker-1 counts as dead: silent for 4\d\.\d s \(phi/.test(reason))).toBe(
    true,
  );
  await pass(3, [one, two, three]);
  expect(reasons()).toContain("worker-1 is here again");
});

test("suspicion and death of one are decisions that name it, its silence and what that means", async () => {
  await pass(30, workers);
  const [one, two, three] = workers;
  await pass(12, [two, three]);
  const judged = bench.coordinator
    .audit({ after: 0, limit: 500 })
    .entries.filter(({ event }) => event.kind === "members-judged");
  expect(judged).toMatchObject([
    {
      who: { kind: "coordinator" },
      subject: "worker-1",
      event: { count: 1, members: [{ peerId: one.peerId, name: "worker-1", state: "suspect" }] },
      reason: expect.stringMatching(/^worker-1 is suspected: silent for \d\.\d s \(phi \d+\.\d\)$/),
    },
    { event: { members: [{ state: "dead" }] } },
  ]);
});
