import { describe, expect, test } from "vitest";
import type { HeldCheckpoint } from "../../../protocol/messages/job-report.ts";
import { JobBench, pointAt } from "../../fixtures/job-bench.ts";
import { digestOf } from "../../fixtures/messages.ts";
import { memoryPeerId } from "../../simulation/memory-network.ts";

/** Of a stage, or of the whole model, as a generation has made it. */
const pointOf = (stage: number | null, step: number, generation = 1) => ({
  step,
  hash: `${generation}${stage ?? "e"}${step}`.padEnd(64, "0"),
});
const artefactOf = (stage: number | null, step: number, generation = 1) =>
  `${generation}${stage ?? "e"}${step}`.padEnd(64, "a");
const heldOf = (stage: number | null, step: number, generation = 1): HeldCheckpoint => ({
  ...{ generation, stage, point: pointOf(stage, step, generation) },
  artefact: artefactOf(stage, step, generation),
});
const stageOf = (bench: JobBench, index: number) => bench.job.members[memoryPeerId(index)]!.stage!;

/** Peers 1 and 2 have trained a stage each; the coordinator has heard of step 50, and then of nothing until both had died. */
function afterUnseenDeaths(): JobBench {
  const bench = new JobBench({ stages: 2, workers: { min: 2, max: 2, spares: 0 } }).peer(1).peer(2);
  bench.tick();
  for (const index of [1, 2]) {
    const stage = stageOf(bench, index);
    bench.ready(index, { stage, point: pointOf(stage, 0, 0) });
  }
  for (const index of [1, 2]) {
    const stage = stageOf(bench, index);
    bench.checkpoint(index, 50, { point: pointOf(stage, 50), artefact: artefactOf(stage, 50) });
  }
  for (const index of [1, 2]) bench.peer(index, { connected: false, eligible: false, silentMs: 60_000 });
  bench.tick(60_000);
  expect(bench.members).toEqual([]);
  return bench;
}

interface Comer {
  readonly index: number;
  readonly held: readonly HeldCheckpoint[];
  /** That its trainer finds on its disk. */
  readonly step: number;
}

/** They come, say what they have, and are ready with states from their own disks. */
function come(bench: JobBench, ...comers: readonly Comer[]): void {
  for (const { index, held } of comers) {
    bench.peer(index, { connected: true, eligible: true, incarnation: "second", silentMs: 0 });
    bench.held(index, held);
  }
  bench.tick();
  for (const { index, held, step } of comers) {
    const stage = stageOf(bench, index);
    bench.ready(index, { stage, point: pointOf(stage, step, step === 0 ? 0 : 1), held: [...held] });
  }
}
const whole = (step: number) => [heldOf(0, step), heldOf(1, step)];
const planned = ({ job }: JobBench) => job.plan!.stages!.map(({ checkpoint }) => checkpoint);

describe("of a model in stages", () => {
  test("what nobody has reported is found where it lies, with copies of a stage whose writer never comes", () => {
    const bench = afterUnseenDeaths();
    come(bench, { index: 1, held: [...whole(60), heldOf(0, 70)], step: 70 }, { index: 3, held: [], step: 0 });
    expect(bench.job.plan).toMatchObject({ generation: 2, start: pointOf(0, 60) });
    expect(planned(bench)).toEqual([artefactOf(0, 60), artefactOf(1, 60)]);
    expect(bench.job.plan!.reason).toContain("from step 60, back from step 70");
  });

  test("who has a checkpoint of a stage trains that one", () => {
    const bench = afterUnseenDeaths();
    bench.job = { ...bench.job, checkpoints: [] };
    come(bench, { index: 1, held: [heldOf(1, 60)], step: 60 }, { index: 2, held: [heldOf(0, 60)], step: 60 });
    expect([1, 2].map((index) => stageOf(bench, index))).toEqual([1, 0]);
    expect(bench.job.plan).toMatchObject({
      start: pointOf(0, 60),
      ranks: [{ heals: false }, { heals: false }],
    });
  });

  test("parts of two histories are never put together: all go back to what the coordinator knows", () => {
    const bench = afterUnseenDeaths();
    come(
      bench,
      { index: 1, held: [heldOf(0, 60, 1)], step: 60 },
      { index: 2, held: [heldOf(1, 60, 2)], step: 60 },
    );
    expect(bench.job.plan).toMatchObject({ generation: 2, start: pointOf(0, 50) });
  });

  test("what a fresh trainer has found on its disk is no state of the current history by itself", () => {
    const bench = afterUnseenDeaths();
    come(bench, { index: 1, held: [], step: 60 }, { index: 2, held: [], step: 60 });
    expect(bench.job.plan).toMatchObject({ start: pointOf(0, 50) });
  });

  test("a state that a flipped bit has made is not begun from where the ranks have agreed on another", () => {
    const bench = afterUnseenDeaths();
    const flipped = { ...heldOf(1, 50), point: { step: 50, hash: digestOf("f") } };
    bench.job = { ...bench.job, checkpoints: bench.job.checkpoints.filter(({ stage }) => stage === 1) };
    come(bench, { index: 1, held: [heldOf(0, 50), flipped], step: 50 }, { index: 2, held: [], step: 0 });
    expect(bench.job.plan).toMatchObject({ start: { step: 0 } });
  });

  test("one that was given up is tried again when somebody comes who has it", () => {
    const bench = afterUnseenDeaths();
    come(bench, { index: 1, held: whole(60), step: 60 }, { index: 3, held: [], step: 0 });
    for (let tries = 0; bench.job.plan!.start.step === 60 && tries < 20; tries++) {
      for (const index of [1, 3]) {
        const stage = stageOf(bench, index);
        const missing = stage === 1 ? { missing: artefactOf(1, 60) } : {};
        const held = index === 1 ? { held: whole(60) } : {};
        bench.ended(index, 0, { point: pointOf(stage, 0, 0), ...missing, ...held });
      }
      while (bench.job.state === "reforming") bench.tick(1_000);
    }
    expect(bench.job.plan!.start.step).toBe(0);
    expect(bench.job.plan!.reason).toContain("nobody has the checkpoint of step 60 of stage 1");
    bench.peer(2, { connected: true, incarnation: "second" }).held(2, [heldOf(1, 60)]);
    for (const index of [1, 3]) bench.ended(index, 0, { point: pointOf(stageOf(bench, index), 0, 0) });
    while (bench.job.state === "reforming") bench.tick(1_000);
    expect(bench.job.plan).toMatchObject({ start: pointOf(0, 60) });
  });

  test("what an agent says last is what it has", () => {
    const bench = afterUnseenDeaths();
    bench.held(1, whole(60));
    bench.held(1, [heldOf(0, 50)]);
    expect(bench.job.held.map(({ stage, point }) => [stage, point.step])).toEqual([[0, 50]]);
    bench.held(1, []);
    expect(bench.job.held).toEqual([]);
  });
});

describe("of a job without stages", () => {
  const single = { workers: { min: 1, max: 1, spares: 0 } };
  /** Peer 1 trains, dies, and is back with a checkpoint when another one has taken its place. */
  function afterChange(): JobBench {
    const bench = new JobBench(single).run(1).peer(2);
    bench.peer(1, { connected: false, eligible: false, silentMs: 60_000 });
    bench.tick(60_000);
    bench.ready(2);
    expect(bench.ranks).toEqual([2]);
    return bench;
  }

  test("the newest one is read from the disk of an agent that is no member", () => {
    const bench = afterChange();
    bench.peer(1, { connected: true, incarnation: "second" }).held(1, [heldOf(null, 80)]);
    bench.ended(2, 7);
    expect(bench.job.plan).toMatchObject({
      ...{ start: pointOf(null, 80), checkpoint: artefactOf(null, 80), healsFirst: true },
      ranks: [{ peerId: memoryPeerId(2), heals: true }],
      reason: "resumed; 1 worker from step 80, which another agent has on its disk",
    });
  });

  test.each([
    { what: "one that is out of reach is not waited for", step: 80, connected: false },
    { what: "a member that is as far needs none", step: 7, connected: true },
  ])("$what", ({ step, connected }) => {
    const bench = afterChange();
    bench.peer(1, { connected, incarnation: "second" }).held(1, [heldOf(null, step)]);
    bench.ended(2, 7);
    expect(bench.job.plan).toMatchObject({ generation: 3, start: pointAt(7) });
    expect(bench.job.plan).not.toHaveProperty("checkpoint");
  });

  test("a paused job goes on where its checkpoint can be read, whoever works for it", () => {
    const bench = new JobBench(single).run(1);
    bench.checkpoint(1, 40, { held: [{ ...heldOf(null, 40), point: pointAt(40) }] });
    bench.steer("pause");
    bench.ended(1, 40, { cause: "quiesced" });
    expect(bench.job.state).toBe("paused");
    bench.peer(1, { eligible: false }).peer(2).steer("resume");
    bench.alone({ kind: "granted", peerIds: [memoryPeerId(2)] });
    bench.ready(2);
    expect(bench.job.plan).toMatchObject({ start: pointAt(40), checkpoint: artefactOf(null, 40) });
  });

  test("nothing is noted of a job that is over, and nobody is sent home for it", () => {
    const bench = new JobBench(single).run(1);
    bench.cancel();
    expect(bench.held(1, [heldOf(null, 40)])).toEqual([]);
    expect(bench.job.held).toEqual([]);
  });
});
