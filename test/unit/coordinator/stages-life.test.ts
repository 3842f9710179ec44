import { expect, test } from "vitest";
import { JobBench } from "../../fixtures/job-bench.ts";
import { digestOf } from "../../fixtures/messages.ts";

/** Of a stage after some steps; the bench's own points know of no stage. */
const pointOf = (stage: number, step: number) => ({
  step,
  hash: `${stage}${step}`.padEnd(64, "0"),
});
const stageOf = (bench: JobBench, index: number) => {
  const peerId = [...bench.peers.keys()][index - 1]!;
  return bench.job.members[peerId]!.stage!;
};
const ready = (bench: JobBench, index: number, step = 0) => {
  const stage = stageOf(bench, index);
  return bench.ready(index, { stage, point: pointOf(stage, step) });
};
/** It had begun before. */
const ended = (bench: JobBench, index: number, step: number) => {
  bench.started(index);
  return bench.ended(index, step, { point: pointOf(stageOf(bench, index), step) });
};
const saved = (bench: JobBench, index: number, step: number) =>
  bench.checkpoint(index, step, { point: pointOf(stageOf(bench, index), step) });

/** Two stages; so many workers, which are given stages by turns. */
function runStages(count: number, workers = { min: 2, max: 4, spares: 0 }): JobBench {
  const bench = new JobBench({ stages: 2, workers });
  for (let index = 1; index <= count; index++) bench.peer(index);
  bench.tick();
  for (let index = 1; index <= count; index++) ready(bench, index);
  return bench;
}

test("workers are given stages by turns, and one too many waits without a pause of the others", () => {
  const bench = runStages(3);
  expect([1, 2, 3].map((index) => stageOf(bench, index))).toEqual([0, 1, 0]);
  expect(bench.ranks).toEqual([1, 2]);
  expect(bench.tick(60_000).filter(({ kind }) => kind === "quiesce")).toEqual([]);
  bench.peer(4);
  bench.tick();
  expect(stageOf(bench, 4)).toBe(1);
  expect(ready(bench, 4)).toEqual([expect.objectContaining({ kind: "quiesce" })]);
  ended(bench, 1, 5);
  ended(bench, 2, 5);
  expect(bench.ranks).toEqual([1, 3, 2, 4]);
  expect(bench.job.plan!.ranks.map(({ heals }) => heals)).toEqual([false, true, false, true]);
});

test("a lost stage is given to another worker, and all go back to the checkpoint that every stage has", () => {
  const bench = runStages(2, { min: 2, max: 2, spares: 0 });
  for (const index of [1, 2]) saved(bench, index, 50);
  saved(bench, 1, 100);
  bench.peer(3).peer(2, { connected: false });
  ended(bench, 1, 120);
  expect(stageOf(bench, 3)).toBe(1);
  ready(bench, 3);
  expect(bench.job.plan).toMatchObject({ generation: 2, start: pointOf(0, 50) });
  expect(bench.job.plan!.stages).toEqual(
    [0, 1].map((stage) => ({ hash: pointOf(stage, 50).hash, checkpoint: digestOf("e") })),
  );
  expect(bench.job.checkpoints.every(({ step }) => step <= 50)).toBe(true);
});

test("replicas that differ are found among those of their stage; other stages have other states", () => {
  const bench = runStages(4);
  for (const index of [1, 2, 3]) expect(saved(bench, index, 20)).toEqual([]);
  expect(bench.job.state).toBe("running");
  bench.checkpoint(4, 20, { point: { step: 20, hash: digestOf("f") } });
  expect(bench.job).toMatchObject({ state: "failed", failure: { code: "HASH_DIVERGED" } });
});

test("what a trainer of another stage says is not taken for this one's", () => {
  const bench = new JobBench({ stages: 2, workers: { min: 2, max: 2, spares: 0 } }).peer(1).peer(2);
  bench.tick();
  bench.ready(1, { stage: 1, point: pointOf(1, 0) });
  expect(bench.job.members[[...bench.peers.keys()][0]!]!.phase).toBe("preparing");
});

test("a checkpoint that nobody has is given up after a while, with those before it: all begin anew", () => {
  const bench = runStages(2, { min: 2, max: 2, spares: 0 });
  for (const step of [50, 100]) {
    for (const index of [1, 2]) {
      const point = pointOf(stageOf(bench, index), step);
      bench.checkpoint(index, step, { point, artefact: digestOf(step === 50 ? "a" : "e") });
    }
  }
  bench.peer(3).peer(2, { connected: false });
  ended(bench, 1, 120);
  ready(bench, 3);
  const starts: number[] = [];
  for (let tries = 0; bench.job.plan!.start.step === 100 && tries < 20; tries++) {
    starts.push(bench.job.plan!.start.step);
    bench.ended(1, 120, { point: pointOf(0, 120) });
    bench.ended(3, 0, { point: pointOf(1, 0), missing: digestOf("e") });
    while (bench.job.state === "reforming") bench.tick(1_000);
  }
  expect(starts).toHaveLength(10);
  expect(bench.job.plan).toMatchObject({ start: { step: 0 } });
  expect(bench.job.checkpoints).toEqual([]);
  expect(bench.job.plan!.reason).toContain("nobody has the checkpoint of step 100 of stage");
});
