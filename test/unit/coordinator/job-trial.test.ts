import { expect, test } from "vitest";
import { stateToFetch } from "../../../coordinator/decide/job-trial.ts";
import { effectsOf, JobBench, pointAt } from "../../fixtures/job-bench.ts";
import { digestOf } from "../../fixtures/messages.ts";
import { memoryPeerId } from "../../simulation/memory-network.ts";

const evaluation = { examples: 10, loss: 0.5, accuracy: 0.9, metrics: {} };

/** A trial on peer 1 that has reached its bound of one epoch at step 20. */
function pausedAtBound(): JobBench {
  const bench = new JobBench({ workers: { min: 1, max: 1, spares: 0 } });
  Object.assign(bench.job, { trial: { sweep: "sweep-1", number: 3 }, bound: 1 });
  bench.run(1);
  bench.checkpoint(1, 20);
  const effects = bench.ended(1, 20, { cause: "quiesced", evaluation });
  expect(effectsOf(effects, "stop")).toMatchObject([{ peerIds: [memoryPeerId(1)] }]);
  return bench;
}

test("at its bound a trial pauses by itself and frees its agent", () => {
  const { job } = pausedAtBound();
  expect(job).toMatchObject({
    ...{ state: "paused", reason: "has reached epoch 1, at step 20", members: {}, hold: null },
    reached: { step: 20, evaluation },
  });
});

test("a ring of two is paused when both have stopped", () => {
  const bench = new JobBench({ workers: { min: 2, max: 2, spares: 0 } });
  Object.assign(bench.job, { trial: { sweep: "sweep-1", number: 3 }, bound: 1 });
  bench.run(2);
  for (const index of [1, 2]) bench.checkpoint(index, 20);
  bench.ended(1, 20, { cause: "quiesced", evaluation });
  expect(bench.job.state).not.toBe("paused");
  bench.ended(2, 20, { cause: "quiesced", evaluation });
  expect(bench.job.state).toBe("paused");
});

test("only its sweep lets it go on: from its checkpoint, on the agent that has it", () => {
  const bench = pausedAtBound().peer(2);
  expect(() => bench.steer("resume")).toThrow(/job-1 waits for the other trials of sweep-1/);
  expect(bench.decide({ kind: "continue", epochs: null })).toEqual([
    { kind: "prepare", peerId: memoryPeerId(1) },
  ]);
  expect(bench.job).toMatchObject({ bound: null, reached: null, resumeFrom: { step: 20 } });
  bench.ready(1, { point: pointAt(20) });
  expect(bench.job.plan).toMatchObject({
    start: pointAt(20),
    reason: "goes on to its end, worker-1 joins; 1 worker from step 20",
  });
  expect(bench.decide({ kind: "continue", epochs: null })).toEqual([]);
});

test("where the agent that has its checkpoint is busy, another one fetches it; an ordinary job would wait", () => {
  const bench = pausedAtBound().peer(1, { eligible: false }).peer(2);
  const ordinary = new JobBench();
  ordinary.job = { ...structuredClone(bench.job), trial: null };
  for (const [peerId, fact] of bench.peers) ordinary.peers.set(peerId, fact);
  expect(bench.decide({ kind: "continue", epochs: 3 })).toEqual([
    { kind: "prepare", peerId: memoryPeerId(2) },
  ]);
  expect(stateToFetch(bench.job)).toEqual({ digest: digestOf("e"), step: 20, holders: [memoryPeerId(1)] });
  bench.ready(2, { point: pointAt(20) });
  expect(bench.job.plan).toMatchObject({ start: pointAt(20), ranks: [{ heals: false }] });
  expect(stateToFetch(bench.job)).toBeUndefined();
  expect(ordinary.decide({ kind: "continue", epochs: 3 })).toEqual([]);
  expect(stateToFetch(ordinary.job)).toBeUndefined();
});

test("a trial whose checkpoint is gone with its agent begins anew; an ordinary job would wait", () => {
  const bench = pausedAtBound().peer(1, { connected: false, eligible: false }).peer(2);
  expect(bench.decide({ kind: "continue", epochs: 3 })).toEqual([
    { kind: "prepare", peerId: memoryPeerId(2) },
  ]);
  bench.ready(2);
  expect(bench.job.plan).toMatchObject({
    start: pointAt(0),
    reason:
      "goes on to epoch 3, nobody who has step 20 is here: it begins anew, worker-2 joins; 1 worker from step 0",
  });
});

test("its agent dies while it prepares to go on: begins anew elsewhere", () => {
  const bench = pausedAtBound();
  bench.decide({ kind: "continue", epochs: 3 });
  bench.peer(1, { connected: false, eligible: false }).peer(2);
  expect(bench.tick()).toContainEqual({ kind: "prepare", peerId: memoryPeerId(2) });
});

test("stopped by its sweep it is over; tried again by an operator it is no trial any more", () => {
  const bench = pausedAtBound();
  bench.decide({ kind: "stop", reason: "sweep-1: others are better" });
  expect(bench.job).toMatchObject({ state: "cancelled", reason: "sweep-1: others are better" });
  expect(bench.decide({ kind: "stop", reason: "again" })).toEqual([]);
  bench.steer("retry");
  expect(bench.job).toMatchObject({ trial: null, bound: null, reached: null, resumeFrom: { step: 20 } });
});
