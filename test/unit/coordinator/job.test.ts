import { describe, expect, test } from "vitest";
import { limits } from "../../../protocol/limits.ts";
import { effectsOf, JobBench, pointAt } from "../../fixtures/job-bench.ts";
import { digestOf } from "../../fixtures/messages.ts";
import { memoryPeerId } from "../../simulation/memory-network.ts";

const workers = (min: number, max: number) => ({ workers: { min, max, spares: 0 } });
/** Longer than survivors of a broken ring are waited for. */
const graceMs = 3_001;

describe("from submission to the first step", () => {
  test("idle workers are asked to prepare, at most workers.max, in the order of their ids", () => {
    const bench = new JobBench(workers(1, 2)).peer(3).peer(1).peer(2);
    expect(bench.tick()).toEqual([
      { kind: "prepare", peerId: memoryPeerId(1) },
      { kind: "prepare", peerId: memoryPeerId(2) },
    ]);
    expect(bench.job.state).toBe("preparing");
    expect(bench.tick()).toEqual([]);
  });

  test.each([{ eligible: false }, { connected: false }, { leaving: true }])(
    "a peer with %j is not asked",
    (facts) => {
      const bench = new JobBench().peer(1, facts);
      expect(bench.tick()).toEqual([]);
      expect(bench.job).toMatchObject({
        state: "waiting",
        reason: "waits in the queue",
      });
    },
  );

  test("the plan comes when all are ready, and says where each rank listens", () => {
    const bench = new JobBench().peer(1).peer(2);
    bench.tick();
    expect(bench.ready(1)).toEqual([]);
    expect(bench.job.reason).toBe("1 of 2 workers are ready");
    const [start] = effectsOf(bench.ready(2), "start");
    expect(start!.plan).toEqual({
      jobId: "job-1",
      generation: 1,
      ranks: [1, 2].map((index, rank) => ({
        rank,
        peerId: memoryPeerId(index),
        host: `10.0.0.${index}`,
        port: 4_000,
        statePort: 4_001,
        heals: false,
      })),
      start: pointAt(0),
      source: memoryPeerId(1),
      transport: "encrypted",
      algorithm: "ring",
      predictedCommunicationMs: null,
      reason: "all workers are ready; 2 workers from step 0",
    });
    expect(bench.job).toMatchObject({ state: "running", startedAtMs: bench.nowMs });
  });

  test("while a step waits for data, the reason tells whose and how far", () => {
    const bench = new JobBench().peer(1).peer(2);
    bench.tick();
    bench.ready(1);
    bench.ready(2);
    const { reason } = bench.job;
    bench.loading(2, 0.347);
    expect(bench.job).toMatchObject({ state: "running", reason: "worker-2 fetches data, 34%" });
    bench.loading(2, 1);
    expect(bench.job.reason).toBe(reason);
  });

  test("too few workers are not asked; where one goes before the ring stands, the reason counts the others", () => {
    const bench = new JobBench(workers(3, 4)).peer(1).peer(2);
    expect(bench.tick()).toEqual([]);
    expect(effectsOf(bench.peer(3).tick(), "prepare")).toHaveLength(3);
    bench.ready(1);
    bench.ready(2);
    bench.peer(3, { connected: false }).tick();
    expect(bench.job).toMatchObject({ plan: null, reason: "waits for 1 more worker: 2 of 3 present" });
  });

  test("an incomplete gang that is given up waits again, and begins anew when it is whole", () => {
    const bench = new JobBench(workers(2, 2)).peer(1).peer(2);
    bench.tick();
    bench.peer(2, { connected: false }).tick();
    const effects = bench.alone({ kind: "reduced", peerIds: [memoryPeerId(1)], to: null });
    expect(effects).toMatchObject([{ kind: "stop", peerIds: [memoryPeerId(1)] }]);
    expect(bench.job).toMatchObject({ state: "waiting", members: {} });
    bench.peer(2, { connected: true }).tick();
    expect(bench.members).toEqual([1, 2]);
  });

  test("who does not become ready in time is stopped, and the others begin", () => {
    const bench = new JobBench().peer(1).peer(2);
    bench.tick();
    bench.ready(1);
    bench.peer(2, { eligible: false });
    const effects = bench.tick(limits.prepareTimeoutMs + 1);
    expect(effectsOf(effects, "stop")).toMatchObject([{ peerIds: [memoryPeerId(2)] }]);
    expect(bench.ranks).toEqual([1]);
  });

  test("who dies while preparing is not waited for", () => {
    const bench = new JobBench().peer(1).peer(2);
    bench.tick();
    bench.ready(1);
    bench.peer(2, { connected: false }).tick();
    expect(bench.ranks).toEqual([1]);
  });

  test("other data than the first worker's fails the job and names the worker", () => {
    const bench = new JobBench().peer(1).peer(2);
    bench.tick();
    bench.ready(1);
    const effects = bench.ready(2, { dataDigest: digestOf("0") });
    expect(bench.job).toMatchObject({
      state: "failed",
      reason: expect.stringMatching(/^DATA_MISMATCH: worker-2/),
    });
    expect(effectsOf(effects, "stop")).toMatchObject([{ peerIds: [memoryPeerId(1), memoryPeerId(2)] }]);
  });

  test("an echo of readiness changes nothing while the plan is on its way", () => {
    const bench = new JobBench().run(2);
    const before = structuredClone(bench.job);
    expect(bench.ready(1, { point: pointAt(7) })).toEqual([]);
    expect(bench.job).toEqual(before);
  });
});

describe("a clean change", () => {
  test("a newcomer pauses the ring once, and enters at the boundary", () => {
    const bench = new JobBench().run(2).peer(3);
    expect(bench.tick()).toEqual([{ kind: "prepare", peerId: memoryPeerId(3) }]);
    expect(bench.ready(3)).toEqual([
      { kind: "quiesce", peerIds: [memoryPeerId(1), memoryPeerId(2)], generation: 1 },
    ]);
    expect(bench.tick()).toEqual([]);
    bench.ended(1, 9, { cause: "quiesced" });
    const [start] = effectsOf(bench.ended(2, 9, { cause: "quiesced" }), "start");
    expect(start!.plan.reason).toBe("worker-3 joins; 3 workers from step 9");
    expect(bench.ranks).toEqual([1, 2, 3]);
  });

  test("a newcomer that goes before it ever was a rank leaves no word behind", () => {
    for (const goes of [{ connected: false }, { leaving: true }]) {
      const bench = new JobBench().run(2).peer(3);
      bench.tick();
      bench.ready(3);
      bench.peer(3, { ...goes, eligible: false }).tick();
      bench.ended(1, 9, { cause: "quiesced" });
      const [start] = effectsOf(bench.ended(2, 9, { cause: "quiesced" }), "start");
      expect(start!.plan.reason).toBe("resumed; 2 workers from step 9");
    }
  });

  test("what it gives back to another job leaves at the boundary, spares at once", () => {
    const bench = new JobBench({ workers: { min: 1, max: 2, spares: 1 } }).run(2).peer(3);
    bench.tick();
    bench.ready(3);
    const peerIds = [3, 2].map(memoryPeerId);
    expect(bench.alone({ kind: "reduced", peerIds, to: "job-9" })).toEqual([
      { kind: "stop", peerIds: [memoryPeerId(3)], reason: "it is given to job-9" },
      { kind: "quiesce", peerIds: [1, 2].map(memoryPeerId), generation: 1 },
    ]);
    bench.peer(3, { eligible: false });
    bench.ended(1, 9, { cause: "quiesced" });
    const effects = bench.ended(2, 9, { cause: "quiesced" });
    expect(effectsOf(effects, "stop")).toMatchObject([{ peerIds: [memoryPeerId(2)] }]);
    expect(effectsOf(effects, "start")[0]!.plan.reason).toBe("worker-2 goes to job-9; 1 worker from step 9");
    expect(bench.job).toMatchObject({ yielding: {}, state: "running" });
  });

  test("a full job is not paused for anybody", () => {
    const bench = new JobBench(workers(1, 2)).run(2).peer(3);
    expect(bench.tick()).toEqual([]);
    expect(bench.members).toEqual([1, 2]);
  });

  test("a leaver is let go at the boundary, and the ring goes on without it", () => {
    const bench = new JobBench().run(3).peer(2, { leaving: true, eligible: false });
    expect(effectsOf(bench.tick(), "quiesce")).toMatchObject([{ generation: 1 }]);
    for (const index of [1, 2]) bench.ended(index, 6, { cause: "quiesced" });
    const effects = bench.ended(3, 6, { cause: "quiesced" });
    expect(effectsOf(effects, "stop")).toEqual([
      { kind: "stop", peerIds: [memoryPeerId(2)], reason: "it leaves the cluster" },
    ]);
    expect(bench.ranks).toEqual([1, 3]);
    expect(bench.job.plan!.reason).toBe("worker-2 leaves; 2 workers from step 6");
  });

  test("the place of a leaver is taken by who waits", () => {
    const bench = new JobBench(workers(1, 2)).run(2).peer(3).peer(2, { leaving: true });
    bench.tick();
    bench.ended(1, 6, { cause: "quiesced" });
    bench.ended(2, 6, { cause: "quiesced" });
    expect(bench.members).toEqual([1, 3]);
  });
});

describe("the end", () => {
  test("when all have finished, the version is registered and the trainers are stopped", () => {
    const bench = new JobBench().run(2);
    expect(bench.finished(1)).toEqual([]);
    expect(bench.finished(2)).toEqual([
      { kind: "stop", peerIds: [memoryPeerId(1), memoryPeerId(2)], reason: bench.job.reason },
      { kind: "register" },
    ]);
    expect(bench.job).toMatchObject({
      state: "succeeded",
      reason: "accuracy 90.00% on the held-out examples",
      endedAtMs: bench.nowMs,
    });
  });

  test("a rank lost on the last yards does not take the result away", () => {
    const bench = new JobBench().run(2).peer(2, { connected: false });
    bench.finished(1);
    const effects = bench.tick(graceMs);
    expect(bench.job.state).toBe("succeeded");
    expect(effectsOf(effects, "register")).toHaveLength(1);
  });

  test("NaN on one rank fails the job with the rank's words", () => {
    const bench = new JobBench().run(2);
    const effects = bench.failed(1, { code: "NOT_FINITE", message: "step 4", fatal: true });
    expect(bench.job).toMatchObject({ state: "failed", reason: "worker-1: NOT_FINITE: step 4" });
    expect(effectsOf(effects, "stop")[0]!.peerIds).toHaveLength(2);
  });

  test("two ranks with unlike parameters at one checkpoint end the job, both named", () => {
    const bench = new JobBench().run(2);
    bench.checkpoint(1, 20);
    bench.checkpoint(2, 20, { point: pointAt(20, "other") });
    expect(bench.job.reason).toMatch(/^HASH_DIVERGED: worker-1 against worker-2 at step 20: /);
  });

  test.each(["waiting", "preparing", "running"])("a job that is %s can be cancelled", (state) => {
    const bench = new JobBench();
    if (state === "preparing") bench.peer(1).tick();
    if (state === "running") bench.run(2);
    const members = bench.members.map(memoryPeerId);
    const effects = bench.cancel();
    expect(bench.job).toMatchObject({ state: "cancelled", members: {} });
    expect(effectsOf(effects, "stop").flatMap(({ peerIds }) => peerIds)).toEqual(members);
    expect(effects).toHaveLength(members.length > 0 ? 1 : 0);
  });

  test("a trainer that speaks up after the end is sent home", () => {
    const bench = new JobBench().run(1);
    bench.cancel();
    expect(bench.ready(1)).toMatchObject([{ kind: "stop", peerIds: [memoryPeerId(1)] }]);
    expect(bench.failed(1)).toEqual([]);
    expect(bench.job.state).toBe("cancelled");
  });

  test("a trainer of nobody is sent home", () => {
    expect(new JobBench().run(1).peer(7, { eligible: false }).ready(7)).toEqual([
      { kind: "stop", peerIds: [memoryPeerId(7)], reason: "not a member" },
    ]);
  });

  test("reports of an earlier generation decide nothing", () => {
    const bench = new JobBench().run(3).peer(3, { connected: false, eligible: false });
    bench.ended(1, 4);
    bench.ended(2, 4);
    const before = structuredClone(bench.job);
    bench.ended(1, 3, { generation: 1 });
    bench.finished(2, { generation: 1 });
    expect(bench.job).toEqual(before);
  });
});
