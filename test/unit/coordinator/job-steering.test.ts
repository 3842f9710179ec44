import { describe, expect, test } from "vitest";
import { effectsInForce } from "../../../coordinator/decide/job.ts";
import { effectsOf, JobBench, pointAt } from "../../fixtures/job-bench.ts";
import { memoryPeerId } from "../../simulation/memory-network.ts";

const ids = (...indices: number[]) => indices.map(memoryPeerId);
const workers = (min: number, max: number) => ({ workers: { min, max, spares: 0 } });

/** Two ranks that have been paused at step 10. */
function paused(bench = new JobBench(workers(1, 2))): JobBench {
  bench.run(2);
  bench.steer("pause", "the machines are needed");
  for (const index of [1, 2]) bench.checkpoint(index, 10);
  for (const index of [1, 2]) bench.ended(index, 10, { cause: "quiesced" });
  expect(bench.job.state).toBe("paused");
  return bench;
}

describe("pause", () => {
  test("asks the ranks to stop with a checkpoint, and sends them home when all have it on disk", () => {
    const bench = new JobBench(workers(1, 2)).run(2);
    expect(bench.steer("pause", "the machines are needed")).toEqual([
      { kind: "quiesce", peerIds: ids(1, 2), generation: 1, checkpoint: true },
    ]);
    expect(bench.ended(1, 10, { cause: "quiesced" })).toEqual([]);
    expect(bench.ended(2, 10, { cause: "quiesced" })).toEqual([]);
    expect(bench.checkpoint(2, 10)).toEqual([]);
    expect(bench.job.state).toBe("running");
    const effects = bench.checkpoint(1, 10);
    const reason = "paused by an operator: the machines are needed, at step 10";
    expect(effects).toEqual([{ kind: "stop", peerIds: ids(1, 2), reason }]);
    expect(bench.job).toMatchObject({ state: "paused", reason, members: {}, hold: null });
  });

  test("is told again after a restart of the coordinator", () => {
    const bench = new JobBench(workers(1, 2)).run(2);
    bench.steer("pause");
    bench.ended(1, 10, { cause: "quiesced" });
    const { effects } = { effects: effectsInForce(bench.job) };
    expect(effects).toEqual([{ kind: "quiesce", peerIds: ids(2, 1), generation: 1, checkpoint: true }]);
    expect(effectsInForce(paused().job)).toEqual([]);
  });

  test("does not wait for a rank that dies on the way, nor for one that is behind", () => {
    const bench = new JobBench(workers(1, 3)).run(3);
    bench.steer("pause");
    bench.ended(1, 10);
    bench.checkpoint(1, 10);
    bench.ended(2, 9);
    expect(bench.job.state).toBe("running");
    bench.peer(3, { connected: false });
    bench.tick();
    expect(bench.job.state).toBe("paused");
  });

  test("of a job that has not begun needs nobody", () => {
    const bench = new JobBench(workers(2, 2)).peer(1).peer(2);
    bench.tick();
    expect(effectsOf(bench.steer("pause"), "stop")).toHaveLength(1);
    expect(bench.job).toMatchObject({
      state: "paused",
      reason: "paused by an operator, before its first step",
    });
    expect(bench.tick(60_000)).toEqual([]);
  });

  test("sends home who speaks up later", () => {
    const bench = paused();
    expect(effectsOf(bench.ready(1), "stop").map(({ peerIds }) => peerIds)).toEqual([ids(1)]);
    expect(bench.job.state).toBe("paused");
  });
});

test("a job that ends on its way to a pause has ended", () => {
  const failed = new JobBench().run(2);
  failed.steer("pause");
  failed.failed(1, { code: "NOT_FINITE", message: "the loss is not finite", fatal: true });
  expect(failed.job).toMatchObject({ state: "failed", hold: null, failure: { code: "NOT_FINITE" } });
  const cancelled = new JobBench().run(2);
  cancelled.steer("pause");
  cancelled.steer("cancel");
  expect(cancelled.job).toMatchObject({ state: "cancelled", hold: null });
});

describe("resume", () => {
  test("goes on from the checkpoint, in the ring order of before", () => {
    const bench = paused();
    expect(bench.steer("resume")).toEqual(ids(1, 2).map((peerId) => ({ kind: "prepare", peerId })));
    bench.ready(2, { point: pointAt(10) });
    const [start] = effectsOf(bench.ready(1, { point: pointAt(10) }), "start");
    expect(start!.plan).toMatchObject({ generation: 2, start: pointAt(10) });
    expect(start!.plan.reason).toMatch(/^resumed by an operator, .*; 2 workers from step 10$/);
    expect(bench.ranks).toEqual([1, 2]);
  });

  test("waits for one who has the checkpoint: nothing begins again from nothing", () => {
    const bench = paused();
    for (const index of [1, 2]) bench.peer(index, { connected: false, eligible: false });
    bench.peer(3).peer(4);
    // Without a holder nobody is taken from other jobs.
    expect(bench.steer("resume")).toEqual([]);
    bench.peer(2, { connected: true, eligible: true });
    const asked = effectsOf(bench.tick(), "prepare").map(({ peerId }) => peerId);
    expect(asked).toEqual([2, 3].map(memoryPeerId));
    bench.ready(3);
    const [start] = effectsOf(bench.ready(2, { point: pointAt(10) }), "start");
    expect(start!.plan).toMatchObject({ start: pointAt(10), healsFirst: true });
  });
});

test("retry takes a failed job up from its newest checkpoint", () => {
  const bench = new JobBench(workers(1, 2)).run(2);
  for (const index of [1, 2]) bench.checkpoint(index, 10);
  bench.failed(1, { code: "NOT_FINITE", fatal: true });
  expect(bench.job.state).toBe("failed");
  bench.steer("retry", "smaller rate");
  expect(bench.job).toMatchObject({ state: "reforming", failure: null, endedAtMs: null });
  for (const index of [1, 2]) bench.ready(index, { point: pointAt(10) });
  expect(bench.job.plan).toMatchObject({ generation: 2, start: pointAt(10) });
});

describe("what makes no sense is refused", () => {
  const running = () => new JobBench(workers(1, 2)).run(2);
  const cancelled = () => {
    const bench = running();
    bench.cancel();
    return bench;
  };
  const pausing = () => {
    const bench = running();
    bench.steer("pause");
    return bench;
  };
  test.each([
    ["pause", cancelled],
    ["pause", paused],
    ["pause", pausing],
    ["resume", running],
    ["resume", pausing],
    ["resume", cancelled],
    ["retry", running],
    ["retry", paused],
    ["cancel", cancelled],
  ] as const)("%s", (action, open) => {
    expect(() => open().steer(action)).toThrow(expect.objectContaining({ code: "CONFLICT" }));
  });

  test("a paused job can be cancelled", () => {
    const bench = paused();
    bench.cancel();
    expect(bench.job).toMatchObject({ state: "cancelled", reason: "cancelled by an operator" });
  });
});

test("after a total loss those that are behind heal before the first step, so that all take part in it", () => {
  const bench = new JobBench(workers(2, 2)).run(2);
  for (const index of [1, 2]) bench.peer(index, { incarnation: "second life" });
  bench.tick();
  bench.ready(1, { point: pointAt(20) });
  bench.ready(2, { point: pointAt(10) });
  expect(bench.job.plan).toMatchObject({ generation: 2, start: pointAt(20), healsFirst: true });
  // With a survivor the others go on at once.
  bench.ended(1, 30);
  bench.peer(2, { incarnation: "third life" });
  bench.tick();
  bench.ready(2, { point: pointAt(10) });
  expect(bench.job.plan).toMatchObject({ generation: 3, start: pointAt(30) });
  expect(bench.job.plan!.healsFirst).toBeUndefined();
});
