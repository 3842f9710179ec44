import fc from "fast-check";
import { expect, test } from "vitest";
import { isTrialOver } from "../../coordinator/decide/sweep-record.ts";
import { rungsOf } from "../../protocol/search.ts";
import { SweepBench } from "../fixtures/sweep-bench.ts";

const space = { "optimizer.learningRate": { min: 1e-5, max: 1, scale: "log" } };
const search = fc.oneof(
  fc.record({ method: fc.constant("random"), trials: fc.integer({ min: 1, max: 12 }) }),
  fc.record({
    method: fc.constant("halving"),
    trials: fc.integer({ min: 1, max: 12 }),
    reduction: fc.integer({ min: 2, max: 4 }),
    minEpochs: fc.constantFrom(0.5, 1, 2, 9),
  }),
);
const number = fc.integer({ min: 1, max: 12 });
const loss = fc.oneof(
  { weight: 8, arbitrary: fc.double({ noNaN: true, min: 0, max: 9 }) },
  fc.constant(Number.NaN),
);

type Move = (bench: SweepBench) => void;
const move: fc.Arbitrary<Move> = fc.oneof(
  fc.boolean().map(
    (survives): Move =>
      (bench) =>
        void bench.tick(survives),
  ),
  {
    weight: 3,
    arbitrary: fc.tuple(number, loss).map(
      ([n, value]): Move =>
        (bench) =>
          void bench.reach(n, value),
    ),
  },
  number.map(
    (n): Move =>
      (bench) => {
        if (bench.jobs.get(n)?.state === "active") bench.change(n, { state: "failed", hasMembers: false });
      },
  ),
  // Its agent dies, and another one takes it.
  fc.tuple(number, fc.boolean()).map(
    ([n, hasMembers]): Move =>
      (bench) => {
        if (bench.jobs.get(n)?.state === "active" && (!hasMembers || bench.idleAgents > 0))
          bench.change(n, { hasMembers });
      },
  ),
);

test("whatever happens: one trial an agent, no trial lost, and the best is the best of those that came furthest", () => {
  fc.assert(
    fc.property(
      search.map((each) => ({ ...each, space })),
      fc.integer({ min: 1, max: 4 }),
      fc.array(move, { maxLength: 60 }),
      (of, agents, moves) => {
        const bench = new SweepBench(of, agents);
        const count = bench.sweep.trials.length;
        const rungs = rungsOf(bench.sweep.search, bench.sweep.job.epochs, count);
        const check = () => {
          const held = [...bench.jobs.values()].filter(({ hasMembers }) => hasMembers);
          expect(held.length).toBeLessThanOrEqual(agents);
          expect(bench.sweep.trials).toHaveLength(count);
          for (const { rung, step } of bench.sweep.trials.flatMap(({ results }) => results))
            expect(step).toBe(100 * rungs[rung]!.epochs); // nobody is judged by less than its rung gives
        };
        for (const make of moves) {
          make(bench);
          check();
        }
        // From here on all goes well: it must come to an end.
        for (let round = 0; bench.sweep.state === "running"; round++) {
          expect(round).toBeLessThan(10 * count);
          bench.tick(false); // but for the coordinator, which dies before it acts
          bench.tick();
          check();
          for (const n of bench.running()) {
            if (bench.idleAgents > 0) bench.change(n, { hasMembers: true });
            bench.reach(n, n);
          }
        }
        bench.tick();
        const { trials, best, state } = bench.sweep;
        expect(trials.every(isTrialOver)).toBe(true);
        expect(bench.running()).toEqual([]);
        const valued = trials.flatMap(({ number: n, results }) => {
          const last = results.at(-1);
          return last && last.value !== null ? [{ n, ...last, value: last.value }] : [];
        });
        const furthest = valued.filter(({ rung }) => rung === Math.max(...valued.map((each) => each.rung)));
        const least = Math.min(...furthest.map(({ value }) => value));
        expect(best).toBe(furthest.find(({ value }) => value === least)?.n ?? null);
        expect(state).toBe(valued.length > 0 ? "succeeded" : "failed");
      },
    ),
  );
});
