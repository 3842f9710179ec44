import { expect, test } from "vitest";
import { computeQuorum } from "../../../coordinator/decide/generation.ts";
import { type JobRecord, type Member, newJob } from "../../../coordinator/decide/job-record.ts";
import { pointAt } from "../../fixtures/job-bench.ts";
import { exampleSpec } from "../../fixtures/messages.ts";
import { memoryPeerId } from "../../simulation/memory-network.ts";

const member = (index: number, point = pointAt(0)): Member => ({
  peerId: memoryPeerId(index),
  incarnation: "first",
  phase: "ready",
  sinceMs: 0,
  host: "10.0.0.1",
  port: 4_000,
  stage: null,
  sizes: null,
  point,
  pointOf: null,
  healing: false,
  statePort: 4_001,
  engine: "cpu",
});
const members = (...indices: number[]) => indices.map((index) => member(index));
/** Whose trainer has lived through the generation before. */
const ended = (...indices: number[]) =>
  members(...indices).map((each): Member => ({ ...each, phase: "ended" }));

/** A job whose generation before had these ranks. */
function jobAfter(previous: readonly number[], workers = { min: 1, max: 8, spares: 0 }): JobRecord {
  const job = newJob("job-1", exampleSpec({ workers }), 0);
  if (previous.length > 0) job.plan = computeQuorum(job, members(...previous), []).plan;
  return job;
}
const ids = (indices: readonly number[]) => indices.map(memoryPeerId);
const ranksOf = ({ plan }: ReturnType<typeof computeQuorum>) => plan?.ranks.map(({ peerId }) => peerId);

test.each([
  { min: 1, present: 0, reason: "waits for 1 more worker: 0 of 1 present" },
  { min: 3, present: 1, reason: "waits for 2 more workers: 1 of 3 present" },
  { min: 3, present: 3, reason: "all workers are ready; 3 workers from step 0" },
  { min: 1, present: 1, reason: "all workers are ready; 1 worker from step 0" },
])("with $present of at least $min: $reason", ({ min, present, reason }) => {
  const candidates = members(...Array.from({ length: present }, (_, i) => i + 1));
  const quorum = computeQuorum(jobAfter([], { min, max: 8, spares: 0 }), candidates, []);
  expect(quorum.reason).toBe(reason);
  expect(quorum.plan === null).toBe(present < min);
});

test("no more ranks than workers.max, and the survivors are the ones that stay", () => {
  const job = jobAfter([5, 3], { min: 1, max: 3, spares: 0 });
  expect(ranksOf(computeQuorum(job, members(1, 2, 3, 5), []))).toEqual(ids([3, 5, 1]));
});

test.each([
  { previous: 2, survivors: 1, silent: 1, goesOn: false },
  { previous: 3, survivors: 2, silent: 1, goesOn: true },
  { previous: 3, survivors: 1, silent: 2, goesOn: false },
  { previous: 4, survivors: 2, silent: 2, goesOn: false },
  { previous: 4, survivors: 2, silent: 1, goesOn: true },
  { previous: 5, survivors: 1, silent: 0, goesOn: true },
  { previous: 3, survivors: 0, silent: 1, goesOn: false },
  { previous: 3, survivors: 0, silent: 0, goesOn: true },
])("of $previous, $survivors answered and $silent may be alive: goes on $goesOn", (shape) => {
  const previous = Array.from({ length: shape.previous }, (_, i) => i + 1);
  const survivors = previous.slice(0, shape.survivors);
  const silent = previous.slice(shape.survivors, shape.survivors + shape.silent);
  const candidates = [...ended(...survivors), ...members(8, 9)];
  // Newcomers do not count: they know nothing of what the silent ones do.
  const quorum = computeQuorum(jobAfter(previous), candidates, ids(silent));
  expect(quorum.plan !== null).toBe(shape.goesOn);
});

test("two halves of a split never both go on, wherever the split is", () => {
  for (let worldSize = 2; worldSize <= 8; worldSize++) {
    const all = Array.from({ length: worldSize }, (_, i) => i + 1);
    for (let cut = 1; cut < worldSize; cut++) {
      const [left, right] = [all.slice(0, cut), all.slice(cut)];
      const goesOn = [
        computeQuorum(jobAfter(all), ended(...left), ids(right)),
        computeQuorum(jobAfter(all), ended(...right), ids(left)),
      ].filter(({ plan }) => plan !== null);
      expect(goesOn.length).toBeLessThanOrEqual(1);
    }
  }
});

test("the order is a function of the set: neighbours stay neighbours, newcomers follow by id", () => {
  const job = jobAfter([1, 2, 3, 4]);
  const expected = ids([1, 3, 4, 7, 8]);
  expect(ranksOf(computeQuorum(job, members(8, 4, 7, 3, 1), []))).toEqual(expected);
  expect(ranksOf(computeQuorum(job, members(1, 3, 4, 8, 7), []))).toEqual(expected);
});

test.each([
  { points: [pointAt(4), pointAt(5), pointAt(4)], start: pointAt(5), source: 2, why: "the most advanced" },
  { points: [pointAt(4), pointAt(4)], start: pointAt(4), source: 1, why: "the lowest rank of equals" },
  {
    points: [pointAt(4, "other"), pointAt(4), pointAt(4)],
    start: pointAt(4),
    source: 2,
    why: "the state that most have",
  },
  {
    points: [pointAt(4), pointAt(4, "other")],
    start: pointAt(4),
    source: 1,
    why: "the lowest rank's of as many votes",
  },
  {
    points: [pointAt(3), pointAt(3), pointAt(4, "other")],
    start: pointAt(4, "other"),
    source: 3,
    why: "one step further than the many",
  },
])("starts from $why", ({ points, start, source }) => {
  const candidates = points.map((point, i) => member(i + 1, point));
  expect(computeQuorum(jobAfter([]), candidates, []).plan).toMatchObject({
    start,
    source: memoryPeerId(source),
  });
});

test("a member whose trainer is a new one is no survivor", () => {
  const candidates = [...ended(1), ...members(2)];
  expect(computeQuorum(jobAfter([1, 2, 3]), candidates, ids([3])).plan).toBeNull();
  expect(computeQuorum(jobAfter([1, 2, 3]), candidates, []).plan).not.toBeNull();
});
