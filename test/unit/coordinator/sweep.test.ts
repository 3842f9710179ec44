import { describe, expect, test } from "vitest";
import { SweepBench } from "../../fixtures/sweep-bench.ts";

const rates = (count: number) => ({
  "optimizer.learningRate": { values: Array.from({ length: count }, (_, i) => (i + 1) / 1_000) },
});
const grid = (count: number, agents?: number, job?: object) =>
  new SweepBench({ method: "grid", space: rates(count) }, agents, job);
const halving = (trials: number, agents?: number) =>
  new SweepBench({ method: "halving", trials, seed: 3, space: rates(trials) }, agents);

describe("packing", () => {
  test("as many trials begin as agents are idle, in their order, and the next one when an agent is free", () => {
    const bench = grid(4, 2);
    bench.tick();
    expect(bench.running()).toEqual([1, 2]);
    expect(bench.tick()).toEqual([]);
    bench.reach(2, 0.5).tick();
    expect(bench.running()).toEqual([1, 3]);
    expect(bench.sweep.reason).toBe("1 of 4 trials are over, 2 running; best is trial 2: loss 0.5");
  });

  test("a trial that waits for an agent, as its own has died, comes before the next one", () => {
    const bench = grid(3, 2);
    bench.tick();
    bench.change(1, { hasMembers: false });
    expect(bench.tick()).toEqual([]);
  });

  test("trials of several workers take what they may take; the first one also less", () => {
    const workers = { workers: { min: 1, max: 2 } };
    const bench = grid(3, 3, workers);
    bench.tick();
    expect(bench.running()).toEqual([1]);
    const small = grid(3, 1, workers);
    small.tick();
    expect(small.running()).toEqual([1]);
  });

  test("a start that a crash swallowed is made at the next look", () => {
    const bench = grid(2, 1);
    const effects = bench.tick(false);
    expect(effects).toEqual([{ kind: "start", trial: 1, epochs: null }]);
    expect(bench.tick()).toEqual(effects);
    expect(bench.tick()).toEqual([]);
  });
});

describe("the end", () => {
  test("the best trial's version is registered once, ties go to the lower number", () => {
    const bench = grid(3, 3);
    bench.tick();
    bench.reach(1, 0.4).reach(2, 0.2);
    expect(bench.reach(3, 0.2).tick()).toEqual([{ kind: "register", version: "digits-trial-2@1" }]);
    expect(bench.sweep).toMatchObject({ state: "succeeded", best: 2, endedAtMs: bench.nowMs });
    expect(bench.news.at(-1)).toBe("succeeded: 3 of 3 trials are over, 0 running; best is trial 2: loss 0.2");
    expect(bench.tick()).toEqual([]);
  });

  test("a failed trial and one whose metric is no number count for nothing; the others go on", () => {
    const bench = grid(3, 3);
    bench.tick();
    bench.change(1, { state: "failed", reason: "NOT_FINITE: step 3", hasMembers: false });
    bench.reach(2, Number.NaN).reach(3, 0.7).tick();
    expect(bench.states()).toEqual(["failed", "succeeded", "succeeded"]);
    expect(bench.sweep).toMatchObject({ state: "succeeded", best: 3 });
  });

  test("without any value the sweep has failed, and says why", () => {
    const bench = grid(1);
    bench.tick();
    bench.change(1, { state: "failed", reason: "NOT_FINITE: step 3", hasMembers: false }).tick();
    expect(bench.sweep).toMatchObject({
      state: "failed",
      reason: "no trial has measured loss; the first failed: NOT_FINITE: step 3",
    });
  });

  test("cancelled, it ends the jobs of its trials and begins no other; again it is refused", () => {
    const bench = grid(3, 1);
    bench.tick();
    bench.decide({ kind: "cancel", reason: "enough" }, false);
    expect(bench.sweep).toMatchObject({ state: "cancelled", reason: "cancelled by an operator: enough" });
    bench.tick(); // what a crash swallowed
    expect(bench.running()).toEqual([]);
    expect(bench.states()).toEqual(["cancelled", "cancelled", "cancelled"]);
    expect(() => bench.decide({ kind: "cancel", reason: "" })).toThrow(/sweep-1 is over/);
  });
});

describe("successive halving", () => {
  test("of 9 trials 3 go on with three times the epochs, and of those 1", () => {
    const bench = halving(9, 9);
    bench.tick();
    expect([...bench.jobs.values()].map(({ bound }) => bound)).toEqual(Array(9).fill(1));
    for (let number = 1; number <= 9; number++) bench.reach(number, 1 / number);
    const effects = bench.tick();
    expect(effects.filter(({ kind }) => kind === "continue")).toEqual(
      [7, 8, 9].map((trial) => ({ kind: "continue", trial, jobId: `job-${trial}`, epochs: 3 })),
    );
    expect(effects.filter(({ kind }) => kind === "stop")).toHaveLength(6);
    expect(bench.running()).toEqual([7, 8, 9]);
    bench.reach(7, 0.05).reach(8, 0.3).reach(9, 0.3).tick();
    expect(bench.running()).toEqual([7]);
    expect(bench.jobs.get(7)).toMatchObject({ bound: null });
    bench.reach(7, 0.6).tick();
    // What others had after fewer epochs is no match for it.
    expect(bench.sweep).toMatchObject({ state: "succeeded", best: 7 });
  });

  test("nobody goes on before the last trial of the rung is there", () => {
    const bench = halving(4, 2);
    bench.tick();
    bench.reach(1, 0.1).reach(2, 0.2).tick();
    bench.reach(3, 0.3).tick();
    expect(bench.states()).toEqual(["paused", "paused", "paused", "running"]);
    bench.reach(4, 0.4).tick();
    expect(bench.states()).toEqual(["running", "stopped", "stopped", "stopped"]);
  });

  test("a rung of which all have failed ends the sweep", () => {
    const bench = halving(2, 2);
    bench.tick();
    for (const number of [1, 2]) bench.change(number, { state: "failed", reason: "lost", hasMembers: false });
    bench.tick();
    expect(bench.sweep.state).toBe("failed");
  });

  test("one that has stopped early is over, and stands with what it has reached in the rungs after", () => {
    const bench = halving(3, 3);
    bench.tick();
    for (const number of [1, 2, 3]) bench.reach(number, number);
    bench.change(1, { state: "succeeded", version: "digits-trial-1@1" });
    bench.tick();
    expect(bench.sweep).toMatchObject({ state: "succeeded", best: 1 });
    expect(bench.sweep.trials[0]).toMatchObject({
      rung: 2,
      results: [{ rung: 0 }, { rung: 1 }, { rung: 2 }],
    });
  });

  test("a trial that an operator has paused on its way is waited for", () => {
    const bench = halving(2, 2);
    bench.tick();
    bench.reach(1, 0.1).change(2, { state: "paused", hasMembers: false }).tick();
    expect(bench.states()).toEqual(["paused", "running"]);
  });
});
