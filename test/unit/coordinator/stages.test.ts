import { expect, test } from "vitest";
import { computeQuorum } from "../../../coordinator/decide/generation.ts";
import { type JobRecord, type Member, newJob } from "../../../coordinator/decide/job-record.ts";
import { memberToMove, replicaCount, stageFor } from "../../../coordinator/decide/stages.ts";
import { digestOf, examplePlan, exampleSpec } from "../../fixtures/messages.ts";
import { memoryPeerId } from "../../simulation/memory-network.ts";

const hashes = ["a", "b", "c"].map(digestOf);
/** The state of a stage after some steps. */
const pointOf = (stage: number, step: number) => ({ step, hash: hashes[stage]!.slice(1) + (step % 10) });

const member = (index: number, stage: number, step: number, changes: Partial<Member> = {}): Member => ({
  ...{ peerId: memoryPeerId(index), incarnation: "first", phase: "ended", sinceMs: 0 },
  ...{ host: "10.0.0.1", port: 4_000, statePort: 4_001, healing: false, engine: "cpu" },
  ...{ stage, point: pointOf(stage, step), pointOf: 1, sizes: null },
  ...changes,
});
const checkpoint = (stage: number, step: number, ...peers: number[]) => ({
  ...pointOf(stage, step),
  ...{ stage, artefact: digestOf("e"), generation: 1, peers: peers.map(memoryPeerId) },
});
/** It has been trained once. */
function jobOf(stages: number, changes: Partial<JobRecord> = {}): JobRecord {
  const spec = exampleSpec({ stages, workers: { min: 1, max: 8, spares: 0 } });
  const plan: JobRecord["plan"] = { ...examplePlan, generation: 1, ranks: [] };
  return { ...newJob("job-1", spec, 0), plan, beginnings: hashes.slice(0, stages), ...changes };
}
const plan = (job: JobRecord, candidates: readonly Member[], silent: readonly string[] = []) =>
  computeQuorum(job, candidates, silent);

test("ranks lie by stage, as many of each as of the one with the fewest; others are spare", () => {
  const candidates = [member(1, 1, 5), member(2, 0, 5), member(3, 0, 5), member(4, 1, 5), member(5, 0, 5)];
  const { plan: made, reason } = plan(jobOf(2), candidates);
  expect(made!.ranks.map(({ rank, peerId }) => [rank, peerId])).toEqual(
    [2, 3, 1, 4].map((index, rank) => [rank, memoryPeerId(index)]),
  );
  expect(made!.stages).toEqual([0, 1].map((stage) => ({ hash: pointOf(stage, 5).hash, checkpoint: null })));
  expect(made!.ranks.some(({ heals }) => heals)).toBe(false);
  expect(reason).toBe("resumed; 2 workers for each of 2 stages from step 5");
});

test("without a worker for each stage there is no plan, and the reason names the stage", () => {
  expect(plan(jobOf(2), [member(1, 0, 5)])).toEqual({
    plan: null,
    reason: "waits for a worker for stage 1: 1+0 are present",
  });
});

test("who is behind heals from the replica that is not", () => {
  const { plan: made } = plan(jobOf(2), [member(1, 0, 7), member(2, 0, 0), member(3, 1, 7), member(4, 1, 7)]);
  expect(made!.start.step).toBe(7);
  expect(made!.ranks.map(({ heals }) => heals)).toEqual([false, true, false, false]);
});

test("a lost stage takes all back to the newest checkpoint that every stage has", () => {
  const checkpoints = [checkpoint(0, 4, 1), checkpoint(1, 4, 9), checkpoint(0, 6, 1)];
  const candidates = [member(1, 0, 7), member(2, 1, 0)];
  const { plan: made, reason } = plan(jobOf(2, { checkpoints }), candidates);
  expect(made!.start).toEqual(pointOf(0, 4));
  expect(made!.stages).toEqual(
    [0, 1].map((stage) => ({ hash: pointOf(stage, 4).hash, checkpoint: digestOf("e") })),
  );
  expect(made!.ranks.every(({ heals }) => heals)).toBe(true);
  expect(reason).toMatch(/from step 4, back from step 7$/);
});

test("without a checkpoint all begin anew", () => {
  const { plan: made } = plan(jobOf(2), [member(1, 0, 7), member(2, 1, 0)]);
  expect(made!.start).toEqual({ step: 0, hash: hashes[0] });
  expect(made!.stages!.every((stage) => stage.checkpoint === null)).toBe(true);
});

test("nobody goes back while somebody silent may have the step", () => {
  const first = [member(1, 0, 3), member(2, 1, 3), member(3, 1, 3), member(4, 0, 3)];
  const job = { ...jobOf(2), plan: plan(jobOf(2), first).plan };
  const now = [member(1, 0, 7), member(4, 0, 7), member(2, 1, 3)].map((each) => ({ ...each, pointOf: 2 }));
  const { plan: made, reason } = plan(job, now, [memoryPeerId(3)]);
  expect(made).toBeNull();
  expect(reason).toBe("waits for those that may have step 7 of every stage; else it goes back to step 0");
});

test("a new member trains the stage with the fewest, or that of which it has a checkpoint", () => {
  const members = { one: member(1, 0, 7) };
  expect(stageFor(jobOf(2, { members }), memoryPeerId(9))).toBe(1);
  expect(stageFor(jobOf(3, { checkpoints: [checkpoint(2, 4, 9)] }), memoryPeerId(9))).toBe(2);
  expect(stageFor(newJob("job-1", exampleSpec(), 0), memoryPeerId(9))).toBeNull();
});

test("a replica moves to a stage that nobody has; a lone one stays", () => {
  const [one, two] = [member(1, 0, 7), member(2, 0, 7)];
  expect(memberToMove(jobOf(2, { members: { one, two } }))).toEqual({ member: one, stage: 1 });
  expect(memberToMove(jobOf(2, { members: { one } }))).toBeUndefined();
  expect(replicaCount(jobOf(2), [one, two, member(3, 1, 7)])).toBe(1);
});
