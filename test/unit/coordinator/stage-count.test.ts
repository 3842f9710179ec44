import { expect, test } from "vitest";
import type { StageSizes } from "../../../protocol/messages/job-report.ts";
import { effectsOf, JobBench } from "../../fixtures/job-bench.ts";
import { memoryPeerId } from "../../simulation/memory-network.ts";

const gb = 1e9;
/** A model of 4 GB that can be cut into as many as four equal parts; of each stage 0.5 GB more. */
function sizesOf(memoryGb: number, stagesMax = 4): StageSizes {
  const stageBytes: number[][] = [];
  for (let stages = 1; stages <= stagesMax; stages++) {
    const bytes = (4 / stages + 0.5) * gb;
    stageBytes.push(Array.from({ length: stages }, () => bytes));
    if (bytes <= memoryGb * gb) break;
  }
  return { memoryBytes: memoryGb * gb, stagesMax, stageBytes };
}

/** Workers with so much memory, all of whom have said what they can hold. */
function sized(memories: readonly number[], workers = { min: 1, max: 4, spares: 0 }) {
  const bench = new JobBench({ stages: "auto", workers });
  for (const i of memories.keys()) bench.peer(i + 1);
  bench.tick();
  const effects = memories.flatMap((memory, i) => bench.sized(i + 1, sizesOf(memory)));
  return { bench, effects };
}
const stagesOf = ({ job }: JobBench) => Object.values(job.members).map(({ stage }) => stage);

test.each<{ memories: number[]; stages: number | undefined }>([
  { memories: [5], stages: undefined },
  { memories: [3, 3], stages: 2 },
  { memories: [2, 2, 2], stages: 3 },
  { memories: [2, 2, 2, 3], stages: 3 },
  { memories: [1.6, 1.6, 1.6, 1.6], stages: 4 },
  { memories: [3, 3, 3, 3], stages: 2 },
  { memories: [1, 5], stages: undefined },
  { memories: [1, 3, 3], stages: 2 },
])("with $memories GB the fewest stages that fit are taken: $stages", ({ memories, stages }) => {
  const { bench, effects } = sized(memories);
  expect(bench.job.spec.stages).toBe(stages);
  const asked = effectsOf(effects, "prepare").map(({ peerId }) => peerId);
  expect(new Set(asked)).toEqual(new Set(Object.keys(bench.job.members)));
  const counts = new Set(stagesOf(bench));
  expect(counts.size).toBe(stages ?? 1);
});

test("nobody is asked for a stage before all workers have said what they can hold", () => {
  const bench = new JobBench({ stages: "auto" }).peer(1).peer(2);
  bench.tick();
  expect(bench.sized(1, sizesOf(5))).toEqual([]);
  expect(bench.job).toMatchObject({ state: "preparing", spec: { stages: "auto" } });
  expect(bench.job.reason).toBe("1 of 2 workers have said what they can hold");
});

test("the choice and its reason are kept, and the job goes on as one with so many stages", () => {
  const { bench } = sized([3, 3]);
  for (const index of [1, 2]) {
    const stage = bench.job.members[memoryPeerId(index)]!.stage!;
    bench.ready(index, { stage, point: { step: 0, hash: `${stage}`.padEnd(64, "0") } });
  }
  expect(bench.job.plan!.stages).toHaveLength(2);
  expect(bench.job.plan!.reason).toBe(
    "2 stages of which the largest takes 2.5 GB, as the workers have 3.0 GB each, and the whole model takes 4.5 GB; 1 worker for each of 2 stages from step 0",
  );
});

test("a worker that can hold no stage is let go, and not asked again", () => {
  const { bench, effects } = sized([1, 3, 3]);
  expect(bench.members).toEqual([2, 3]);
  expect(effectsOf(effects, "stop").map(({ peerIds }) => peerIds)).toEqual([[memoryPeerId(1)]]);
  bench.tick();
  expect(bench.members).toEqual([2, 3]);
});

test("who comes later and is too small for its stage leaves the job as it is", () => {
  const { bench } = sized([3, 3]);
  bench.peer(3);
  bench.tick();
  bench.failed(3, { code: "MODEL_TOO_LARGE", fatal: true });
  expect(bench.job.state).toBe("preparing");
  expect(bench.members).toEqual([1, 2]);
  bench.tick();
  expect(bench.members).toEqual([1, 2]);
});

test("with too few workers it waits and says for what; the next one is enough", () => {
  const { bench } = sized([2, 2]);
  expect(bench.job).toMatchObject({
    state: "waiting",
    reason:
      "waits for more workers: 3 stages of which the largest takes 1.8 GB; the workers have 2.0 GB each",
  });
  expect(bench.tick(400_000)).toEqual([]); // nobody is overdue
  bench.peer(3);
  expect(effectsOf(bench.tick(), "prepare")).toHaveLength(1);
  bench.sized(3, sizesOf(2));
  expect(bench.job.spec.stages).toBe(3);
});

test("the least world of the job counts: two workers that hold all of it, or two stages", () => {
  const { bench } = sized([5, 3], { min: 2, max: 2, spares: 0 });
  expect(bench.job.spec.stages).toBe(2);
  const whole = sized([5, 5], { min: 2, max: 2, spares: 0 });
  expect(whole.bench.job.spec.stages).toBeUndefined();
});

test("a model that fits nowhere, however it is cut, is refused with what it takes", () => {
  const { bench } = sized([1, 1]);
  expect(bench.job).toMatchObject({ state: "failed", failure: { code: "MODEL_TOO_LARGE" } });
  expect(bench.job.reason).toBe(
    "MODEL_TOO_LARGE: the workers have 1.0 GB each, and of 4 stages, the most that this job may have, the largest takes 1.5 GB",
  );
});

test("who is left over makes another replica, each stage by turns", () => {
  const { bench } = sized([3, 3, 3, 3]);
  expect(stagesOf(bench).toSorted()).toEqual([0, 0, 1, 1]);
});
