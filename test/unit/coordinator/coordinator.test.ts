import { beforeEach, describe, expect, test } from "vitest";
import { createAuthority, issueToken } from "../../../protocol/credentials.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import { type Hello, join, leave, protocolRange } from "../../../protocol/messages/membership.ts";
import type { Store } from "../../../protocol/ports.ts";
import { CoordinatorBench, coordinatorId, trainThrough } from "../../fixtures/coordinator-bench.ts";
import { digestOf, exampleHello, exampleSpec } from "../../fixtures/messages.ts";
import { memoryPeerId } from "../../simulation/memory-network.ts";
import { openMemoryStore } from "../../simulation/memory-store.ts";

const spec = exampleSpec({ workers: { min: 1, max: 2, spares: 0 } });
let bench: CoordinatorBench;
beforeEach(async () => {
  bench = new CoordinatorBench();
  await bench.start();
});

const deployment = () => bench.coordinator.view().deployments[0]!;
const grant = { role: "worker", expiresInSeconds: 60, addresses: true } as const;

async function trained() {
  const worker = await bench.worker(1);
  await bench.coordinator.submitJob(spec);
  await trainThrough(worker, "job-1");
  return worker;
}

describe("joining", () => {
  const ask = async (hello: Hello, token: string, from = hello.peerId) =>
    bench.cluster.open(from).request(coordinatorId, join, { hello, token, membership: null });

  test("a token makes a member, and its certificate is good for the next life", async () => {
    const worker = await bench.worker(1);
    worker.crash();
    await bench.settle();
    expect(bench.coordinator.view().peers[0]).toMatchObject({ state: "dead" });
    const hello = { ...exampleHello(1), incarnation: "second" };
    expect(await ask(hello, "")).toMatchObject({ roles: ["worker"], term: 1, clusterName: "lab" });
    expect(bench.coordinator.view().peers).toMatchObject([{ state: "alive" }]);
  });

  test.each([
    ["no token", async () => ""],
    ["nonsense", async () => "a.b.c"],
    [
      "another cluster's token",
      async () =>
        issueToken(await createAuthority("lab"), {
          ...{ role: "worker", swarmKey: "k", coordinator: coordinatorId, addresses: [], expiresAtMs: 1e12 },
        }),
    ],
  ])("%s opens nothing", async (_what, token) => {
    await expect(ask(exampleHello(1), await token())).rejects.toMatchObject({ code: "TOKEN_INVALID" });
    expect(bench.coordinator.view().peers).toEqual([]);
  });

  test("an expired token opens nothing", async () => {
    const { token } = await bench.coordinator.createToken(grant);
    await bench.clock.advance(61_000);
    await expect(ask(exampleHello(1), token)).rejects.toMatchObject({ code: "TOKEN_EXPIRED" });
  });

  test("a hello under another's name is refused", async () => {
    const { token } = await bench.coordinator.createToken(grant);
    await expect(ask(exampleHello(1), token, memoryPeerId(2))).rejects.toMatchObject({
      code: "NOT_A_MEMBER",
    });
  });

  test("a release that speaks no protocol of ours is refused, and the message names both ranges", async () => {
    const { token } = await bench.coordinator.createToken(grant);
    const hello = { ...exampleHello(1), protocolMin: 7, protocolMax: 9 };
    await expect(ask(hello, token)).rejects.toMatchObject({
      code: "PROTOCOL_RANGE",
      data: { theirs: "7-9", ours: `${protocolRange.min}-${protocolRange.max}` },
    });
  });

  test("one identity in two live agents is refused; when the first has gone, the second may come", async () => {
    const first = await bench.worker(1);
    const { token } = await bench.coordinator.createToken(grant);
    const second = { ...exampleHello(1), incarnation: "second" };
    await expect(ask(second, token)).rejects.toMatchObject({ code: "DUPLICATE_IDENTITY" });
    first.crash();
    await bench.settle();
    await expect(ask(second, token)).resolves.toBeDefined();
  });

  test("presence is believed of its author only", async () => {
    const worker = await bench.worker(1);
    const impostor = await bench.worker(2);
    await impostor.beat({ hello: exampleHello(1) });
    await impostor.beat({ membership: "forged", load: { cpu: 9, residentBytes: 9 } });
    await worker.beat({ load: { cpu: 2, residentBytes: 7 } });
    await worker.beat({ membership: "forged", load: { cpu: 8, residentBytes: 8 } }); // after one that was believed
    expect(bench.coordinator.view().peers.map(({ load }) => load.cpu)).toEqual([2, 0]);
  });
});

describe("a job over its agents", () => {
  test("from submission to a registered version", async () => {
    const worker = await trained();
    expect(worker.told).toEqual(["prepare job-1", "start 1", "stop job-1"]);
    expect(bench.coordinator.job("job-1")).toMatchObject({
      state: "succeeded",
      version: "digits@1",
      evaluation: { accuracy: 0.9 },
    });
    expect(bench.coordinator.version("digits", 1).manifest).toMatchObject({
      weights: { digest: digestOf("f") },
      lineage: { jobId: "job-1", steps: 4, generations: 1, peers: [worker.peerId], engines: ["cpu"] },
      metrics: { accuracy: 0.9, loss: 0.5, testExamples: 10 },
    });
  });

  test("one worker works for one job at a time", async () => {
    const worker = await bench.worker(1);
    for (let i = 0; i < 2; i++) await bench.coordinator.submitJob(spec);
    await bench.settle();
    expect(worker.told).toEqual(["prepare job-1"]);
    await bench.coordinator.steerJob("job-1", "cancel");
    await bench.clock.advance(1_000);
    expect(worker.told).toEqual(["prepare job-1", "stop job-1", "prepare job-2"]);
  });

  test("progress without a point is a sign of life, not a crash", async () => {
    const worker = await bench.worker(1);
    await bench.coordinator.submitJob(spec);
    await worker.report("ready");
    const about = { jobId: "job-1", generation: 1 };
    await worker.report("progress", about);
    const { progress } = bench.coordinator.job("job-1");
    await worker.report("progress", { ...about, progress: { ...progress!, step: 9, points: [] } });
    expect(bench.coordinator.job("job-1").progress).toMatchObject({ step: 9 });
    expect(bench.coordinator.curve("job-1")).toHaveLength(1);
  });

  test("the curve is bounded, keeps its ends, and forgets steps that were taken back", async () => {
    const worker = await bench.worker(1);
    await bench.coordinator.submitJob(spec);
    await worker.report("ready");
    const point = (step: number, loss = step) => ({ step, loss, accuracy: 0 });
    const tell = async (points: ReturnType<typeof point>[]) => {
      const progress = {
        ...{ step: 1, totalSteps: 9, epoch: 0, loss: 1, accuracy: 0, samplesPerSecond: 1 },
        ...{
          hiddenCommunicationMs: 0,
          communicationMs: 1.5,
          sentBytes: 4_096,
          communicationShare: 0,
          worldSize: 1,
          stallBoundMs: 2_000,
          skippedSteps: 0,
          points,
        },
      };
      await worker.report("progress", { jobId: "job-1", generation: 1, progress });
    };
    for (let from = 0; from < 5_000; from += 1_000) {
      await tell(Array.from({ length: 1_000 }, (_, i) => point(from + i)));
    }
    const curve = bench.coordinator.curve("job-1");
    expect(curve.length).toBeLessThanOrEqual(limits.lossCurvePointsMax);
    expect([curve[0]!.step, curve.at(-1)!.step]).toEqual([0, 4_999]);
    await tell([point(3_000, -1)]);
    expect(bench.coordinator.curve("job-1").at(-1)).toEqual(point(3_000, -1));
  });

  test("a leaver is released when the job can do without it", async () => {
    const worker = await bench.worker(1);
    await bench.coordinator.submitJob(spec);
    await worker.report("ready");
    const goodbye = () =>
      worker.network.request(coordinatorId, leave, { reason: "asked to", incarnation: "life-1" });
    expect(await goodbye()).toEqual({ released: false });
    expect(worker.told.at(-1)).toBe("quiesce 1");
    await worker.report("ended", { jobId: "job-1", generation: 1, cause: "quiesced" });
    expect(await goodbye()).toEqual({ released: true });
    expect(bench.coordinator.view().peers[0]).toMatchObject({ state: "left" });
  });
});

describe("a coordinator that starts again", () => {
  /** The same disk and agents, whose sockets are gone for a moment. */
  async function restart(): Promise<void> {
    bench.crash();
    await bench.start();
  }

  test("takes the next term and knows everything that it had decided", async () => {
    await trained();
    await bench.coordinator.submitJob(spec);
    const before = bench.coordinator.view();
    await restart();
    const after = bench.coordinator.view();
    expect(after.coordinator.term).toBe(before.coordinator.term + 1);
    expect(after.versions).toEqual(before.versions.map((version) => ({ ...version, holders: [] })));
    expect(after.jobs.map(({ id, state }) => ({ id, state }))).toEqual([
      { id: "job-1", state: "succeeded" },
      { id: "job-2", state: expect.any(String) },
    ]);
    expect(bench.coordinator.curve("job-1")).toHaveLength(1);
    expect(after.events.slice(0, before.events.length)).toEqual(before.events);
    expect((await bench.coordinator.submitJob(spec)).id).toBe("job-3");
  });

  test("leaves a running ring alone", async () => {
    const worker = await bench.worker(1);
    await bench.coordinator.submitJob(spec);
    await worker.report("ready");
    await restart();
    await bench.clock.advance(3_000);
    await worker.join();
    await bench.clock.advance(1_000);
    expect(bench.coordinator.job("job-1")).toMatchObject({
      state: "running",
      generations: [{ generation: 1 }],
    });
    await worker.report("finished", { jobId: "job-1", generation: 1 });
    expect(bench.coordinator.job("job-1").state).toBe("succeeded");
  });

  test("moves no replica while its agents find their way back", async () => {
    const workers = [await trained(), await bench.worker(2)];
    await bench.coordinator.deploy("digits", { version: 1, shards: 2, replicas: 1 });
    await bench.settle();
    for (const worker of workers) await worker.loadShards();
    const before = deployment();
    expect(before.state).toBe("ready");
    await restart();
    await bench.clock.advance(2_000);
    await workers[1]!.join();
    await bench.clock.advance(1_000);
    // Routing goes on as it was; people are told what is sure.
    expect(workers[1]!.placements[0]!.shards).toEqual(before.shards);
    expect(deployment().state).toBe("loading");
    await workers[0]!.join();
    await bench.clock.advance(1_000);
    expect(deployment().shards).toEqual(before.shards);
  });

  test("calls no replica ready whose agent has begun another life", async () => {
    const workers = [await trained(), await bench.worker(2)];
    await bench.coordinator.deploy("digits", { version: 1, shards: 2, replicas: 1 });
    await bench.settle();
    for (const worker of workers) await worker.loadShards();
    await restart();
    for (const worker of workers) await worker.beginAnew();
    await bench.clock.advance(1_000);
    expect(deployment().state).toBe("loading");
    expect(
      workers[1]!.placements[0]!.shards.flatMap(({ replicas }) => replicas.map(({ ready }) => ready)),
    ).toEqual([false, false]);
    for (const worker of workers) await worker.loadShards();
    expect(deployment().state).toBe("ready");
  });

  test("replaces the replicas of who does not come back", async () => {
    const workers = [await trained(), await bench.worker(2)];
    await bench.coordinator.deploy("digits", { version: 1, shards: 2, replicas: 1 });
    await bench.settle();
    for (const worker of workers) await worker.loadShards();
    workers[0]!.crash();
    await restart();
    await workers[1]!.join();
    for (let passedMs = 0; passedMs <= limits.gatheringMs; passedMs += 1_000) {
      await bench.clock.advance(1_000);
      await workers[1]!.beat();
    }
    const hosts = deployment().shards.flatMap(({ replicas }) => replicas.map(({ peerId }) => peerId));
    expect(hosts).toEqual([workers[1]!.peerId, workers[1]!.peerId]);
  });
});

describe("a disk that fails", () => {
  /** Writes fail while `failing`. */
  const disk = { failing: false };
  const failingStore = (): Store => {
    const store = openMemoryStore(bench.disk);
    return {
      ...store,
      write: async (writes) => {
        if (disk.failing) throw new RingfoldError("STORE_FAILED", "no space left");
        await store.write(writes);
      },
    };
  };
  beforeEach(async () => {
    disk.failing = false;
    bench.crash();
    await bench.start(failingStore());
  });

  test("a job that is not on disk does not exist, for nobody", async () => {
    const worker = await bench.worker(1);
    disk.failing = true;
    await expect(bench.coordinator.submitJob(spec)).rejects.toMatchObject({ code: "STORE_FAILED" });
    await bench.settle();
    expect(bench.coordinator.view().jobs).toEqual([]);
    expect(worker.told).toEqual([]);
    disk.failing = false;
    expect((await bench.coordinator.submitJob(spec)).id).toBe("job-1");
  });

  test("a version is registered once, also when the first try to write it fails", async () => {
    const worker = await bench.worker(1);
    await bench.coordinator.submitJob(spec);
    await worker.report("ready");
    disk.failing = true;
    const finished = { jobId: "job-1", generation: 1 };
    await expect(worker.report("finished", finished)).rejects.toMatchObject({ code: "STORE_FAILED" });
    expect(bench.coordinator.view().versions).toEqual([]);
    disk.failing = false;
    await worker.report("finished", finished);
    expect(bench.coordinator.view().versions.map(({ version }) => version)).toEqual([1]);
    expect(bench.coordinator.job("job-1").version).toBe("digits@1");
  });
});

test("closed, it leaves no timer, and sockets that close after it are nobody's news", async () => {
  await bench.worker(1);
  await bench.coordinator.close();
  expect(bench.clock.pendingTimers).toBe(0);
  bench.cluster.crash(memoryPeerId(1));
  await bench.settle();
  await expect(bench.coordinator.submitJob(spec)).rejects.toMatchObject({ code: "CANCELLED" });
});
