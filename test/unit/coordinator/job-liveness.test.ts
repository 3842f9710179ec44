import { describe, expect, test } from "vitest";
import { effectsInForce } from "../../../coordinator/decide/job.ts";
import { generationCount } from "../../../coordinator/decide/job-record.ts";
import { limits } from "../../../protocol/limits.ts";
import { effectsOf, JobBench, pointAt } from "../../fixtures/job-bench.ts";
import { digestOf } from "../../fixtures/messages.ts";
import { memoryPeerId } from "../../simulation/memory-network.ts";

/** Longer than a majority that has reported waits for the rest. */
const graceMs = 2_001;

test("members in a long step are not given up while nobody could go on without them", () => {
  const bench = new JobBench({ workers: { min: 1, max: 3, spares: 0 } }).run(3).peer(3, { connected: false });
  bench.ended(1, 4);
  expect(effectsOf(bench.tick(graceMs), "stop")).toEqual([]);
  expect(bench.members).toEqual([1, 2]);
  bench.ended(2, 5);
  expect(bench.job.plan).toMatchObject({ generation: 2, start: pointAt(5) });
});

test("the slower the steps, the longer a majority waits for the rest", () => {
  const bench = new JobBench({ workers: { min: 1, max: 3, spares: 0 } }).run(3);
  bench.ended(1, 4, { stepMs: 900 });
  bench.ended(2, 4, { stepMs: 1_000 });
  bench.tick(3_990);
  expect(bench.members).toEqual([1, 2, 3]);
  bench.tick(20);
  expect(bench.job.plan).toMatchObject({ generation: 2, start: pointAt(4) });
});

describe("a member that its neighbour has taken for stalled", () => {
  const of = (count: number) => new JobBench({ workers: { min: 1, max: count, spares: 0 } }).run(count);
  const named = (index: number) => ({ code: "HOP_TIMEOUT", suspect: memoryPeerId(index), stepMs: 15 });
  const closed = (index: number) => ({ code: "RING_BROKEN", suspect: memoryPeerId(index), stepMs: 15 });

  test("is waited for no longer than it takes to answer, once all others have ended", () => {
    const bench = of(4);
    bench.ended(4, 7, named(3));
    bench.ended(1, 7, closed(4));
    bench.tick(1_000);
    expect(bench.members).toEqual([1, 2, 3, 4]); // nobody has named the second, which has not answered either
    bench.ended(2, 8, closed(1));
    expect(bench.ranks).toEqual([1, 2, 4]);
    expect(bench.job.plan).toMatchObject({ generation: 2, start: pointAt(8) });
    expect(bench.job.plan!.reason).toContain("worker-3 stalled");
  });

  test("is known by being the only one that has not answered, whomever those that waited have named", () => {
    const bench = of(4);
    bench.ended(1, 7, named(4));
    bench.ended(2, 7, closed(1));
    bench.ended(4, 7, closed(1));
    bench.tick(290);
    expect(bench.members).toEqual([1, 2, 3, 4]);
    bench.tick(20);
    expect(bench.ranks).toEqual([1, 2, 4]);
  });

  test("answers within a step, if it lives, and is none then", () => {
    const bench = of(3);
    bench.ended(1, 7, { ...named(3), stepMs: 400 });
    bench.ended(2, 7, closed(1));
    bench.tick(390);
    bench.ended(3, 7, closed(2));
    expect(bench.ranks).toEqual([1, 2, 3]);
    // Whom somebody named in the ring before is nobody's suspect in the next one.
    bench.ended(1, 9, closed(2));
    bench.ended(2, 9, closed(1));
    bench.tick(1_990);
    expect(bench.members).toEqual([1, 2, 3]);
  });

  test("is waited for as before where only its socket has closed", () => {
    const bench = of(3);
    bench.ended(1, 7, closed(3));
    bench.ended(2, 7, closed(1));
    bench.tick(1_990);
    expect(bench.members).toEqual([1, 2, 3]);
    bench.tick(20);
    expect(bench.ranks).toEqual([1, 2]);
  });

  test("is not given up by a minority, whoever names it", () => {
    const bench = of(2);
    bench.ended(1, 7, named(2));
    bench.tick(graceMs);
    expect(bench.members).toEqual([1, 2]);
    expect(bench.job.reason).toContain("waits for a majority");
  });
});

test("they are given up in the end", () => {
  const bench = new JobBench({ workers: { min: 1, max: 2, spares: 0 } }).run(2).peer(2, { eligible: false });
  bench.ended(1, 4);
  const effects = bench.tick(limits.prepareTimeoutMs + 1);
  expect(effectsOf(effects, "stop")).toMatchObject([{ peerIds: [memoryPeerId(2)] }]);
});

test("a stalled member that says it has stopped is no longer a reason to wait for a majority", () => {
  const bench = new JobBench({ workers: { min: 1, max: 2, spares: 0 } }).run(2).peer(2, { eligible: false });
  bench.ended(1, 4);
  bench.tick(limits.prepareTimeoutMs + 1);
  expect(bench.job.reason).toContain("waits for a majority");
  bench.failed(2, { code: "CANCELLED" });
  expect(bench.ranks).toEqual([1]);
});

test("a broken generation is called off for those who still wait to be linked", () => {
  const bench = new JobBench().run(3);
  expect(effectsOf(bench.ended(1, 0), "quiesce")).toMatchObject([
    { peerIds: [memoryPeerId(2), memoryPeerId(3)], generation: 1 },
  ]);
  expect(effectsOf(bench.tick(100), "quiesce")).toEqual([]);
});

test("another trainer than the planned one breaks the generation, and brings its address", () => {
  const bench = new JobBench({ workers: { min: 1, max: 2, spares: 0 } }).run(2);
  bench.ready(2, { port: 4_001 });
  bench.ended(1, 3);
  expect(bench.job.plan).toMatchObject({ generation: 2, start: pointAt(3) });
  expect(bench.job.plan!.ranks.map(({ port }) => port)).toEqual([4_000, 4_001]);
});

test("a ring of which nobody is left is formed anew from who comes", () => {
  const bench = new JobBench({ workers: { min: 1, max: 1, spares: 0 } }).run(1);
  bench.peer(1, { connected: false, eligible: false, silentMs: 1_000 }).peer(2);
  expect(bench.tick()).toEqual([]);
  bench.peer(1, { silentMs: limits.hopTimeoutMs + 1 });
  expect(effectsOf(bench.tick(), "prepare")).toEqual([{ kind: "prepare", peerId: memoryPeerId(2) }]);
});

test("a coordinator that has just started leaves a ring alone of which nobody has come back yet", () => {
  const bench = new JobBench({ workers: { min: 1, max: 2, spares: 0 } }).run(2);
  bench.newTerm(bench.nowMs + 3_600_000).peers.clear();
  bench.watch = { gathering: true };
  expect(bench.tick(500)).toEqual([]);
  expect(bench.job).toMatchObject({ state: "running", interruptedAtMs: null });
  bench.peer(1).peer(2);
  bench.watch = { gathering: false };
  expect(bench.tick(60_000)).toEqual([]);
});

test("a ring of which nobody comes back to a coordinator that waits for long is formed anew", () => {
  const bench = new JobBench({ workers: { min: 1, max: 1, spares: 0 } }).run(1);
  bench.newTerm(bench.nowMs + 3_600_000).peers.clear();
  bench.peer(2);
  expect(bench.tick(limits.hopTimeoutMs)).toEqual([]);
  expect(effectsOf(bench.tick(1), "prepare")).toEqual([{ kind: "prepare", peerId: memoryPeerId(2) }]);
});

test("a ring that breaks again and again before its first step is formed ever more slowly", () => {
  const bench = new JobBench({ workers: { min: 2, max: 2, spares: 0 } }).run(2);
  const breakRing = () => {
    bench.ended(1, 0);
    bench.ended(2, 0);
  };
  for (let generation = 1; generation <= 4; generation++) breakRing();
  expect(bench.generation).toBe(5);
  breakRing();
  expect(bench.generation).toBe(5);
  expect(bench.job).toMatchObject({ state: "reforming", reason: expect.stringContaining("more slowly") });
  bench.tick(500);
  expect(bench.generation).toBe(6);
});

test("after a restart the commands in force are given again, and only to whom they concern", () => {
  const bench = new JobBench({ workers: { min: 1, max: 3, spares: 0 } }).run(2).peer(3);
  bench.tick();
  expect(effectsInForce(bench.job)).toEqual([
    { kind: "prepare", peerId: memoryPeerId(3) },
    { kind: "start", plan: bench.job.plan, peerIds: [memoryPeerId(1), memoryPeerId(2)] },
  ]);
  bench.ready(3);
  bench.ended(1, 4, { cause: "quiesced" });
  expect(effectsInForce(bench.job)).toEqual([
    { kind: "start", plan: bench.job.plan, peerIds: [memoryPeerId(2)] },
    { kind: "quiesce", peerIds: [memoryPeerId(2)], generation: 1 },
  ]);
  bench.cancel();
  expect(effectsInForce(bench.job)).toEqual([]);
});

test("a job that waits says the same as long as nothing happens: no decision is written for the clock alone", () => {
  const waiting = new JobBench({ workers: { min: 2, max: 2, spares: 0 } }).peer(1);
  const broken = new JobBench({ workers: { min: 2, max: 2, spares: 0 } }).run(2);
  for (let generation = 1; generation <= 8; generation++) {
    broken.ended(1, 0);
    broken.ended(2, 0);
    if (broken.job.state === "reforming") break;
  }
  const missing = new JobBench().run(3).peer(2, { connected: false }).peer(3, { connected: false });
  missing.ended(1, 4);
  for (const bench of [waiting, broken, missing]) {
    bench.tick();
    const { reason } = bench.job;
    for (let passedMs = 0; passedMs < 400; passedMs += 100) {
      bench.tick(100);
      expect(bench.job.reason).toBe(reason);
    }
  }
});

test("of many generations the first and the last are kept, and all are counted", () => {
  const bench = new JobBench({ workers: { min: 1, max: 1, spares: 0 } }).run(1);
  for (let step = 1; step <= 250; step++) bench.ended(1, step);
  const kept = bench.job.generations.map(({ generation }) => generation);
  expect(kept).toEqual([1, ...Array.from({ length: 200 }, (_, i) => 52 + i)]);
  expect(generationCount(bench.job)).toBe(251);
});

test.each([
  ["TRAINER_DIED", (bench: JobBench) => bench.failed(1, { fatal: true, message: "gone" }), "gone"],
  ["DATA_MISMATCH", (bench: JobBench) => bench.ready(3, { dataDigest: digestOf("e") }), "worker-3"],
  ["HASH_DIVERGED", (bench: JobBench) => bench.checkpoint(2, 5, { point: pointAt(5, "other") }), "worker-2"],
])("a job that fails says so by code: %s", (code, fail, says) => {
  const bench = new JobBench().run(2).peer(3);
  bench.tick();
  bench.checkpoint(1, 5);
  expect(bench.job.failure).toBeNull();
  fail(bench);
  expect(bench.job).toMatchObject({
    state: "failed",
    reason: expect.stringContaining(code),
    failure: { code, message: expect.stringContaining(says) },
  });
});

test("a job that fails names the agent whose fault it is, whoever reports it first", () => {
  const bench = new JobBench().run(2);
  const message = "the gradient of dense/kernel is not finite on rank 1 at step 7";
  bench.failed(1, { code: "NOT_FINITE", message, fatal: true, suspect: memoryPeerId(2) });
  expect(bench.job.reason).toBe(`worker-2: NOT_FINITE: ${message}`);
});

test("at the end everyone who ever was a rank is sent home", () => {
  const bench = new JobBench().run(3).peer(3, { connected: false, eligible: false });
  bench.ended(1, 4);
  bench.ended(2, 4);
  expect(bench.members).toEqual([1, 2]);
  expect(effectsOf(bench.cancel(), "stop")[0]!.peerIds).toEqual([1, 2, 3].map(memoryPeerId));
});

describe("a rank that heals", () => {
  const healing = () => {
    const bench = new JobBench({ workers: { min: 1, max: 4, spares: 0 } }).run(2);
    bench.peer(3).tick();
    bench.ready(3);
    bench.ended(1, 7, { cause: "quiesced" });
    bench.ended(2, 7, { cause: "quiesced" });
    return bench;
  };

  test("is one that does not stand at the start, and says what it has copied", () => {
    const bench = healing();
    expect(bench.job.plan!.ranks.map(({ heals }) => heals)).toEqual([false, false, true]);
    bench.started(1);
    bench.started(3, { healedBytes: 1_000, healMs: 20 });
    bench.started(3, { healedBytes: 1_000, healMs: 20 });
    expect(bench.job.generations.at(-1)!.healed).toEqual([{ peerId: memoryPeerId(3), bytes: 1_000, ms: 20 }]);
  });

  test("is not interrupted by another newcomer, who comes in when it has healed", () => {
    const bench = healing();
    bench.peer(4).tick();
    expect(effectsOf(bench.ready(4), "quiesce")).toEqual([]);
    expect(effectsOf(bench.started(3, { healedBytes: 1_000, healMs: 20 }), "quiesce")).toHaveLength(1);
  });

  test("does not keep a leaving member", () => {
    const bench = healing();
    expect(effectsOf(bench.peer(1, { leaving: true }).tick(), "quiesce")).toHaveLength(1);
  });

  test("and its like form no ring while one that has the steps may be alive", () => {
    const bench = healing();
    bench.ended(3, 0);
    bench.peer(1, { eligible: false }).peer(2, { connected: false });
    bench.tick(60_000);
    bench.tick(limits.prepareTimeoutMs);
    expect(bench.job.plan!.generation).toBe(2);
    expect(bench.job.reason).toContain("waits for");
    bench.peer(1, { connected: false }).tick();
    expect(bench.job.plan).toMatchObject({ generation: 3, start: pointAt(0) });
  });
});

describe("a spare", () => {
  const workers = { min: 1, max: 2, spares: 1 };

  test("has its trainer ready and stands by: the ring does not wait for it, nor pause for it", () => {
    const bench = new JobBench({ workers }).run(2);
    expect(effectsOf(bench.peer(3).tick(), "prepare")).toEqual([
      { kind: "prepare", peerId: memoryPeerId(3) },
    ]);
    expect(effectsOf(bench.ready(3), "quiesce")).toEqual([]);
    expect(bench.ranks).toEqual([1, 2]);
    expect(effectsOf(bench.peer(4).tick(), "prepare")).toEqual([]);
  });

  test("steps in for a rank that dies, and another one takes its place", () => {
    const bench = new JobBench({ workers }).run(2).peer(3);
    bench.tick();
    bench.ready(3);
    bench.peer(4).peer(2, { connected: false }).ended(1, 9);
    expect(bench.ranks).toEqual([1, 3]);
    expect(bench.job.plan).toMatchObject({ start: pointAt(9), reason: expect.stringContaining("joins") });
    expect(bench.members).toEqual([1, 3, 4]);
  });

  test("is not told of as a newcomer when it stays one", () => {
    const bench = new JobBench({ workers }).run(2).peer(3);
    bench.tick();
    bench.ready(3);
    bench.ended(1, 9);
    bench.ended(2, 9);
    expect(bench.ranks).toEqual([1, 2]);
    expect(bench.job.plan!.reason).not.toContain("joins");
  });
});
