import fc from "fast-check";
import { expect, test } from "vitest";
import { type MicroOperation, microSchedule } from "../../agent/training/stages/micro-schedule.ts";

const shape = fc.record({
  stageCount: fc.integer({ min: 1, max: 9 }),
  microBatchCount: fc.integer({ min: 0, max: 24 }),
});

const schedulesOf = ({ stageCount, microBatchCount }: { stageCount: number; microBatchCount: number }) =>
  Array.from({ length: stageCount }, (_, stage) => microSchedule({ stage, stageCount, microBatchCount }));

const ordered = (operations: readonly MicroOperation[], kind: MicroOperation["kind"]) =>
  operations.filter((each) => each.kind === kind).map(({ microBatch }) => microBatch);

test("each stage takes every micro-batch forward once and back once, in order", () => {
  fc.assert(
    fc.property(shape, (of) => {
      const all = Array.from({ length: of.microBatchCount }, (_, i) => i);
      for (const operations of schedulesOf(of)) {
        expect(ordered(operations, "forward")).toEqual(all);
        expect(ordered(operations, "backward")).toEqual(all);
      }
    }),
  );
});

test("a stage has at most as many micro-batches under way as there are stages from it on", () => {
  fc.assert(
    fc.property(shape, (of) => {
      for (const [stage, operations] of schedulesOf(of).entries()) {
        let underWay = 0;
        for (const { kind } of operations) {
          underWay += kind === "forward" ? 1 : -1;
          expect(underWay).toBeGreaterThanOrEqual(0);
          expect(underWay).toBeLessThanOrEqual(of.stageCount - stage);
        }
      }
    }),
  );
});

/** Runs all stages, whichever can go on in the order of `picks`; messages wait in queues. @returns the longest queue */
function run(schedules: readonly MicroOperation[][], picks: readonly number[]): number {
  const done = schedules.map(() => 0);
  const forward = schedules.map(() => [] as number[]); // towards this stage, from the one before
  const backward = schedules.map(() => [] as number[]); // towards this stage, from the one after
  let longest = 0;
  for (let turn = 0; ; turn++) {
    const ready = schedules.flatMap((operations, stage) => {
      const next = operations[done[stage]!];
      if (!next) return [];
      const needs = next.kind === "forward" ? forward[stage]! : backward[stage]!;
      const isEnd = next.kind === "forward" ? stage === 0 : stage === schedules.length - 1;
      return isEnd || needs.length > 0 ? [stage] : [];
    });
    if (ready.length === 0) break;
    const stage = ready[(picks[turn % picks.length] ?? 0) % ready.length]!;
    const { kind, microBatch } = schedules[stage]![done[stage]!++]!;
    const [from, to] = kind === "forward" ? [forward, stage + 1] : [backward, stage - 1];
    const taken = from[stage]!.shift();
    if (taken !== undefined) expect(taken).toBe(microBatch);
    from[to]?.push(microBatch);
    longest = Math.max(longest, ...[...forward, ...backward].map(({ length }) => length));
  }
  expect(done).toEqual(schedules.map(({ length }) => length));
  return longest;
}

test("all stages come to the end in any order of events, and no queue is longer than there are stages", () => {
  const picks = fc.array(fc.nat({ max: 8 }), { minLength: 1, maxLength: 40 });
  fc.assert(
    fc.property(shape, picks, (of, order) => {
      expect(run(schedulesOf(of), order)).toBeLessThanOrEqual(of.stageCount);
    }),
  );
});

test("three stages, four micro-batches: as in the paper's figure", () => {
  const text = (operations: readonly MicroOperation[]) =>
    operations.map(({ kind, microBatch }) => `${kind[0]}${microBatch + 1}`).join(" ");
  expect(schedulesOf({ stageCount: 3, microBatchCount: 4 }).map(text)).toEqual([
    "f1 f2 f3 b1 f4 b2 b3 b4",
    "f1 f2 b1 f3 b2 f4 b3 b4",
    "f1 b1 f2 b2 f3 b3 f4 b4",
  ]);
});
