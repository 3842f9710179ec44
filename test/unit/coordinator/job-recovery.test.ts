import { describe, expect, test } from "vitest";
import { jobRecordSchema } from "../../../coordinator/decide/job-record.ts";
import { effectsOf, JobBench, pointAt } from "../../fixtures/job-bench.ts";
import { memoryPeerId } from "../../simulation/memory-network.ts";

const workers = (min: number, max: number) => ({ workers: { min, max, spares: 0 } });
/** Longer than survivors of a broken ring are waited for. */
const graceMs = 2_001;

describe("a death", () => {
  test("a closed control connection alone stops no ring", () => {
    const bench = new JobBench().run(3).peer(2, { connected: false });
    expect(bench.tick(60_000)).toEqual([]);
    expect(bench.job.state).toBe("running");
  });

  test("survivors of a broken ring go on from the most advanced step, in their order", () => {
    const bench = new JobBench().run(3).peer(2, { connected: false });
    expect(effectsOf(bench.ended(1, 4), "start")).toEqual([]);
    expect(bench.job.state).toBe("reforming");
    const [start] = effectsOf(bench.ended(3, 5), "start");
    expect(start!.plan).toMatchObject({
      generation: 2,
      start: pointAt(5),
      source: memoryPeerId(3),
      reason: "worker-2 died; 2 workers from step 5",
    });
    expect(bench.ranks).toEqual([1, 3]);
  });

  test("survivors that have not felt the break are asked to end, once", () => {
    const bench = new JobBench().run(3).peer(3, { connected: false });
    expect(bench.ended(1, 4)).toEqual([{ kind: "quiesce", peerIds: [memoryPeerId(2)], generation: 1 }]);
    expect(bench.tick()).toEqual([]);
  });

  test("an agent that lives anew has lost its trainer, even if nobody saw it go", () => {
    const bench = new JobBench().run(2).peer(2, { incarnation: "second", eligible: false });
    expect(effectsOf(bench.tick(), "start")).toEqual([]);
    expect(bench.job.state).toBe("reforming");
    bench.ended(1, 3);
    expect(bench.job.plan!.reason).toBe("worker-2 restarted; 1 worker from step 3");
  });

  test("a trainer that failed by itself is asked again, but not for ever", () => {
    const bench = new JobBench().run(2);
    bench.ended(1, 1);
    for (const expected of [true, true, false]) {
      const effects = bench.failed(2);
      expect(effectsOf(effects, "prepare").length > 0).toBe(expected);
      bench.ready(2, { point: pointAt(0) });
      bench.ended(1, 1);
    }
    expect(bench.job.failures[memoryPeerId(2)]).toMatchObject({ penalty: 3, barred: true });
    expect(bench.members).toEqual([1]);
  });

  test("an agent that is left out is named, and tried again after a while", () => {
    const bench = new JobBench(workers(2, 2)).run(2);
    const die = () => {
      bench.failed(2);
      bench.ended(1, 1);
    };
    die();
    for (let again = 0; again < 2; again++) {
      bench.ready(2, { point: pointAt(0) });
      die();
    }
    expect(bench.job.reason).toBe(
      "waits for 1 more worker: 1 of 2 present; worker-2 left out for a while: its trainers died again and again",
    );
    expect(effectsOf(bench.tick(7 * 60_000), "prepare")).toEqual([]);
    expect(effectsOf(bench.tick(60_000), "prepare")).toEqual([{ kind: "prepare", peerId: memoryPeerId(2) }]);
  });

  test("an agent that is left out is tried again when it lives anew", () => {
    const bench = new JobBench().run(2);
    bench.ended(1, 1);
    for (let death = 0; death < 3; death++) {
      bench.failed(2);
      bench.ready(2, { point: pointAt(0) });
      bench.ended(1, 1);
    }
    expect(effectsOf(bench.tick(), "prepare")).toEqual([]);
    bench.peer(2, { incarnation: "second" });
    expect(effectsOf(bench.tick(), "prepare")).toEqual([{ kind: "prepare", peerId: memoryPeerId(2) }]);
  });

  test("whom a record of an earlier release leaves out is asked again", () => {
    const bench = new JobBench().run(2);
    bench.ended(1, 1);
    const { job } = bench;
    const failures = { [memoryPeerId(3)]: 3 };
    bench.job = jobRecordSchema.parse({ ...structuredClone(job), failures });
    bench.peer(3);
    expect(effectsOf(bench.tick(), "prepare")).toEqual([{ kind: "prepare", peerId: memoryPeerId(3) }]);
  });

  test("trainers that die now and then, while the job gets on, leave nobody out", () => {
    const bench = new JobBench().run(2);
    for (let death = 1; death <= 12; death++) {
      bench.nowMs += 60_000;
      bench.checkpoint(1, death);
      bench.failed(2);
      bench.ended(1, death);
      bench.ready(2, { point: pointAt(0) });
      bench.ended(1, death);
      expect(bench.members).toEqual([1, 2]);
    }
  });

  test("too few survivors wait for a newcomer", () => {
    const bench = new JobBench(workers(2, 2)).run(2).peer(2, { connected: false });
    bench.ended(1, 4);
    expect(bench.job).toMatchObject({
      state: "reforming",
      reason: "waits for 1 more worker: 1 of 2 present",
    });
    bench.peer(3).tick();
    expect(effectsOf(bench.ready(3), "start")[0]!.plan).toMatchObject({ generation: 2, start: pointAt(4) });
  });

  test("the outage is measured from the break to the first new step", () => {
    const bench = new JobBench().run(2).peer(2, { connected: false });
    bench.ended(1, 4);
    bench.nowMs += 250;
    bench.resumed(1, 5);
    expect(bench.job.generations.map(({ recoveryMs }) => recoveryMs)).toEqual([null, 250]);
  });

  test("a ring that breaks again before its first step is still the same outage", () => {
    const bench = new JobBench().run(3).peer(3, { connected: false });
    bench.ended(1, 4);
    bench.ended(2, 4);
    bench.nowMs += 100;
    bench.peer(2, { connected: false }).ended(1, 4);
    bench.nowMs += 100;
    bench.resumed(1, 5);
    expect(bench.job.generations.at(-1)!.recoveryMs).toBe(200);
  });

  test("steps that died with their owner are trained again, with other bits", () => {
    const bench = new JobBench(workers(1, 2)).run(2);
    bench.checkpoint(1, 40);
    bench.checkpoint(2, 40);
    bench.peer(2, { connected: false });
    bench.ended(1, 50);
    bench.checkpoint(1, 60);
    bench.peer(1, { connected: false }).failed(1);
    bench.peer(2, { connected: true, incarnation: "second" }).tick();
    bench.ready(2, { point: pointAt(40) });
    expect(bench.job.plan).toMatchObject({ generation: 3, start: pointAt(40) });
    bench.checkpoint(1, 60, { generation: 2 });
    bench.checkpoint(2, 60, { point: pointAt(60, "other") });
    expect(bench.job.state).toBe("running");
    expect(bench.job.checkpoints).toMatchObject([
      { step: 40, peers: expect.objectContaining({ length: 2 }) },
      { step: 60, peers: expect.objectContaining({ length: 1 }) },
    ]);
  });
});

describe("a rank that ends by a fault of its own, again and again at one step", () => {
  const own = { fault: "INTERNAL", detail: "INTERNAL: unreachable" };
  /** Both end; of the second the fault is its own, of the first too if asked. */
  const breakAt = (bench: JobBench, step: number, first: object = {}) => {
    bench.ended(1, step, first);
    return bench.ended(2, step, own);
  };

  test("is left out, and the others go on", () => {
    const bench = new JobBench(workers(1, 2)).run(2);
    breakAt(bench, 4);
    breakAt(bench, 4);
    expect(bench.ranks).toEqual([1, 2]);
    breakAt(bench, 4);
    expect(effectsOf(breakAt(bench, 4), "stop")).toMatchObject([
      { peerIds: [memoryPeerId(2)], reason: "its trainer failed 3 times, going on from step 4 (INTERNAL)" },
    ]);
    expect(bench.ranks).toEqual([1]);
    expect(bench.job).toMatchObject({ state: "running", failures: { [memoryPeerId(2)]: { barred: true } } });
    expect(bench.job.plan!.reason).toContain("trainer of worker-2 failed (INTERNAL)");
  });

  test("is asked again as long as steps are made between", () => {
    const bench = new JobBench(workers(1, 2)).run(2);
    for (let step = 1; step < 20; step++) breakAt(bench, step);
    expect(bench.ranks).toEqual([1, 2]);
  });

  test("ends the job, with the fault named, where nobody can go on without it", () => {
    for (const bench of [new JobBench(workers(2, 2)).run(2), new JobBench(workers(1, 2)).run(2)]) {
      if (bench.job.spec.workers.min === 1) bench.peer(1, { connected: false });
      const effects = [1, 2, 3, 4].map(() => breakAt(bench, 4)).at(-1)!;
      expect(bench.job).toMatchObject({
        state: "failed",
        failure: { code: "INTERNAL", message: "unreachable" },
        reason: "worker-2: INTERNAL: unreachable; 3 times, going on from step 4",
      });
      expect(effectsOf(effects, "stop")).toHaveLength(1);
    }
  });

  test("ends the job where a second one has the same", () => {
    const bench = new JobBench(workers(1, 3)).run(3);
    const all = () => {
      for (const index of bench.members) bench.ended(index, 4, own);
    };
    for (let round = 0; round < 4; round++) all();
    expect(bench.job).toMatchObject({ state: "failed", failure: { code: "INTERNAL" } });
    expect(bench.generation).toBe(4);
  });

  test("may be tried again by an operator", () => {
    const bench = new JobBench(workers(2, 2)).run(2);
    bench.checkpoint(1, 4);
    for (let round = 0; round < 4; round++) breakAt(bench, 4);
    bench.steer("retry");
    expect(bench.job.faults).toBeUndefined();
    expect(bench.members).toEqual([1, 2]);
  });

  test("takes no result away", () => {
    const bench = new JobBench(workers(2, 2)).run(2);
    for (let round = 0; round < 3; round++) breakAt(bench, 4);
    bench.finished(1);
    bench.ended(2, 4, own);
    expect(bench.job.state).toBe("succeeded");
  });
});

describe("a stalled member", () => {
  test("is stopped after a grace, and the majority goes on without it", () => {
    const bench = new JobBench().run(3).peer(3, { eligible: false });
    bench.ended(1, 4);
    bench.ended(2, 4);
    expect(bench.tick(graceMs - 2)).toEqual([]);
    const effects = bench.tick(2);
    expect(effectsOf(effects, "stop")).toMatchObject([{ peerIds: [memoryPeerId(3)] }]);
    expect(bench.ranks).toEqual([1, 2]);
    expect(bench.job.plan!.reason).toContain("worker-3 stalled");
  });

  test("half of the members never go on while the silent half may be training", () => {
    const bench = new JobBench().run(2).peer(2, { eligible: false });
    bench.ended(1, 4);
    bench.tick(graceMs);
    expect(bench.job).toMatchObject({
      state: "reforming",
      reason: "waits for a majority: 1 of 2 members that may be alive have answered",
    });
  });

  test("once its death is known, the other half goes on", () => {
    const bench = new JobBench().run(2).peer(2, { eligible: false });
    bench.ended(1, 4);
    bench.tick(graceMs);
    bench.peer(2, { connected: false }).tick();
    expect(bench.ranks).toEqual([1]);
  });

  test("once it is ready anew, both go on", () => {
    const bench = new JobBench().run(2);
    bench.ended(1, 4);
    bench.tick(graceMs);
    bench.ready(2);
    expect(bench.ranks).toEqual([1, 2]);
    expect(bench.job.plan).toMatchObject({ start: pointAt(4), source: memoryPeerId(1) });
  });
});
