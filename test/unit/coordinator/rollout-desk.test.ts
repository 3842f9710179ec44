import { beforeEach, expect, test } from "vitest";
import { recordedState, replayLog } from "../../../coordinator/decision-log.ts";
import { type RolloutRequest, rolloutRequestSchema } from "../../../protocol/messages/rollout.ts";
import { type BenchWorker, CoordinatorBench, trainThrough } from "../../fixtures/coordinator-bench.ts";
import { exampleSpec } from "../../fixtures/messages.ts";
import { served } from "../../fixtures/served.ts";
import { openMemoryStore } from "../../simulation/memory-store.ts";

let bench: CoordinatorBench;
let worker: BenchWorker;
beforeEach(async () => {
  bench = new CoordinatorBench();
  await bench.start();
  worker = await bench.worker(1);
  for (const jobId of ["job-1", "job-2", "job-3"]) {
    await bench.coordinator.submitJob(exampleSpec({ workers: { min: 1, max: 1, spares: 0 } }));
    await trainThrough(worker, jobId);
  }
  await bench.coordinator.deploy("digits", { version: 1, shards: 1, replicas: 1 });
  await bench.settle();
  await worker.loadShards();
});

const start = (changes: Partial<RolloutRequest> = {}, key?: string) =>
  bench.coordinator.startRollout(
    rolloutRequestSchema.parse({ name: "digits", version: 2, steps: [10, 100], holdSeconds: 5, ...changes }),
    key === undefined ? undefined : { key, fingerprint: "0".repeat(64) },
  );
const rollout = () => bench.coordinator.rollout("digits");
const routes = () => worker.placements.map(({ version, live, weight }) => ({ version, live, weight }));

/** What the gateway of the worker has answered by now, in all. */
let answered = { candidate: 0, live: 0 };
beforeEach(() => {
  answered = { candidate: 0, live: 0 };
});
const answer = async (candidate: number, live: number, failed = 0) => {
  answered = { candidate: answered.candidate + candidate, live: answered.live + live };
  await worker.beat({
    served: [
      { deployment: 2, ...served(answered.candidate, { failed }) },
      { deployment: 1, ...served(answered.live) },
    ],
  });
  await bench.settle();
};
const pass = async (ms: number) => {
  for (let passed = 0; passed < ms; passed += 1_000) {
    await bench.clock.advance(1_000);
    await answer(0, 0);
  }
};
const begin = async () => {
  await start();
  await bench.settle();
  await worker.loadShards();
  await answer(0, 0);
};

test("a good version takes over step by step; weights reach the agents, and the alias moves with the live flag", async () => {
  await bench.coordinator.moveAlias("digits", "champion", { version: 1 });
  await start({ alias: "champion" });
  await bench.settle();
  expect(routes()).toEqual([
    { version: 1, live: true },
    { version: 2, live: false, weight: 0 },
  ]);
  expect(rollout()).toMatchObject({ state: "placing", weight: 0, deployment: 2 });
  await worker.loadShards();
  expect(routes()[1]).toMatchObject({ version: 2, live: false, weight: 10 });
  await answer(0, 0);
  await answer(200, 2_000);
  await pass(4_000);
  expect(rollout()).toMatchObject({
    state: "progressing",
    step: 1,
    evidence: { candidate: { requests: 200 } },
  });
  await pass(1_000);
  expect(rollout()).toMatchObject({ step: 2, weight: 100, evidence: { candidate: { requests: 0 } } });
  expect(routes()[1]).toMatchObject({ weight: 100 });
  await answer(300, 0);
  await pass(6_000);
  expect(rollout()).toMatchObject({ state: "promoted", weight: 0, evidence: { live: { requests: 2_000 } } });
  expect(routes()).toEqual([{ version: 2, live: true }]);
  expect(bench.coordinator.version("digits", "champion").version).toBe(2);
  const store = openMemoryStore(bench.disk);
  expect(replayLog(store)).toEqual(recordedState(store));
  const told = bench.coordinator.audit({ after: 0, limit: 1_000 }).entries;
  expect(told.filter(({ event }) => event.kind.startsWith("rollout-")).map(({ reason }) => reason)).toEqual([
    "rolls out digits@2 beside digits@1, by 10, 100%",
    "10% of the requests go to digits@2: 1 of 1 replicas are ready",
    expect.stringMatching(/^100% of the requests go to digits@2: fails 0% of 200; /),
    expect.stringMatching(/^digits@2 takes over from digits@1: fails 0% of 300; /),
  ]);
});

test("a worse version is rolled back with the beat that shows it, and the live one keeps its place", async () => {
  await begin();
  await answer(60, 600, 50);
  expect(rollout()).toMatchObject({
    state: "rolled-back",
    reason: expect.stringMatching(/^rolled back at 10%: it fails 83.3% of 60/),
    evidence: { candidate: { requests: 60, errors: { NOT_FINITE: 50 } }, live: { requests: 600 } },
  });
  expect(routes()).toEqual([{ version: 1, live: true }]);
});

test("without traffic it stays where it is, and says why", async () => {
  await begin();
  await pass(60_000);
  expect(rollout()).toMatchObject({ step: 1, reason: "waits at 10%: no request has come to it" });
});

test("a candidate whose replica is lost is held, and not judged as good meanwhile", async () => {
  const other = await bench.worker(2);
  await begin();
  await answer(200, 2_000);
  const host = bench.coordinator.deployments().find(({ version }) => version === 2)!.shards[0]!
    .replicas[0]!.peerId;
  expect(host).toBe(other.peerId);
  await other.loadShards();
  expect(rollout().step).toBe(1);
  other.crash();
  await bench.settle();
  await pass(20_000);
  expect(rollout()).toMatchObject({
    state: "progressing",
    step: 1,
    reason: "holds at 10%: 0 of 1 replicas are ready",
  });
  await worker.loadShards();
  expect(rollout().reason).toBe("all replicas are ready again; 10% is held anew");
  await answer(100, 0, 5); // in part from before
  await answer(200, 2_000, 5);
  expect(rollout().evidence).toMatchObject({ candidate: { requests: 200, errors: {} } });
  await pass(6_000);
  expect(rollout()).toMatchObject({ step: 2 });
});

test("a restarted coordinator goes on at the step, with hold and evidence from their beginning", async () => {
  await begin();
  await answer(200, 2_000);
  await pass(4_000);
  bench.crash();
  await bench.start();
  await worker.join();
  await answer(0, 0);
  expect(rollout()).toMatchObject({
    state: "progressing",
    step: 1,
    weight: 10,
    evidence: { candidate: { requests: 0 } },
  });
  expect(routes()[1]).toMatchObject({ version: 2, weight: 10 });
  await pass(4_000);
  expect(rollout().step).toBe(1);
  await answer(200, 2_000);
  await pass(3_000);
  expect(rollout().step).toBe(2);
});

test("a clock that is set by an hour shortens no hold, and a coordinator whose clock is another one lengthens none", async () => {
  await begin();
  await answer(200, 2_000);
  bench.clock.set(3_600_000);
  await pass(3_000);
  expect(rollout().step).toBe(1);
  bench.crash();
  bench.clock.set(-7_200_000);
  await bench.start();
  await worker.join();
  await answer(0, 0);
  await answer(200, 2_000);
  await pass(3_000);
  expect(rollout().step).toBe(1);
  await pass(3_000);
  expect(rollout().step).toBe(2);
});

test("while one is under way, nothing else takes over; what is removed takes it along", async () => {
  await begin();
  const deploy = () => bench.coordinator.deploy("digits", { version: 3, shards: 1, replicas: 1 });
  await expect(deploy()).rejects.toMatchObject({ code: "CONFLICT", message: "digits@2 is being rolled out" });
  await expect(start({ version: 3 })).rejects.toMatchObject({ code: "CONFLICT" });
  await expect(bench.coordinator.removeVersion("digits", 2)).rejects.toMatchObject({ code: "CONFLICT" });
  await bench.coordinator.removeDeployment("digits");
  expect(rollout()).toMatchObject({
    state: "aborted",
    reason: "digits is served no longer as it was when this began",
  });
  expect(bench.coordinator.deployments()).toEqual([]);
});

test("what cannot be rolled out is refused, and leaves nothing", async () => {
  await expect(start({ version: 1 })).rejects.toMatchObject({
    code: "CONFLICT",
    message: "digits@1 is live already",
  });
  await expect(start({ version: 9 })).rejects.toMatchObject({ code: "NOT_FOUND" });
  await expect(start({ replicas: 5 })).rejects.toMatchObject({ code: "INSUFFICIENT_WORKERS" });
  await bench.coordinator.deploy("digits", { version: 3, shards: 1, replicas: 1 });
  await expect(start()).rejects.toMatchObject({
    code: "CONFLICT",
    message: "digits@3 is about to take over",
  });
  await bench.coordinator.removeDeployment("digits");
  await expect(start()).rejects.toMatchObject({ code: "NOT_FOUND" });
  expect(bench.coordinator.rollouts()).toEqual([]);
});

test("an order goes by what its giver has seen; a request with a key happens once", async () => {
  const first = await start({}, "one");
  expect(await start({}, "one")).toMatchObject({ number: first.number });
  const stale = bench.coordinator.rolloutRevision("digits");
  const served = bench.coordinator.deploymentRevision("digits");
  await bench.coordinator.orderRollout("digits", "pause", { ifMatch: [stale] });
  await expect(bench.coordinator.orderRollout("digits", "abort", { ifMatch: [stale] })).rejects.toMatchObject(
    {
      code: "PRECONDITION_FAILED",
    },
  );
  await worker.loadShards();
  expect(rollout()).toMatchObject({ state: "paused", step: 0 });
  expect(await bench.coordinator.orderRollout("digits", "promote", { full: true })).toMatchObject({
    state: "promoted",
  });
  expect(routes()).toEqual([{ version: 2, live: true }]);
  expect(bench.coordinator.deploymentRevision("digits")).not.toBe(served);
});
