import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { BatchBuffer } from "../../../agent/data/dataset.ts";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { Engine } from "../../../agent/engine/port.ts";
import { DataAhead } from "../../../agent/training/data-ahead.ts";
import { evaluateLocally } from "../../../agent/training/evaluation.ts";
import { nothingAsked } from "../../../agent/training/metrics/asked.ts";
import { Sampler } from "../../../agent/training/sampler.ts";
import { StallBound } from "../../../agent/training/stall-bound.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import { remoteData } from "../../fixtures/remote-data.ts";
import { memoryRings, openRank, runAll, tinyData } from "../../fixtures/trainers.ts";
import { FakeClock } from "../../simulation/fake-clock.ts";

const never = new AbortController().signal;
let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ prefer: "cpu" });
});
afterAll(() => engine.close());

/** 200 examples in 40 chunks, of which the sampler mixes eight at a time: 25 steps an epoch. */
const source = tinyData(200);
const chunkExamples = 5;
const spec = { batchSize: 8, epochs: 2 };

test("two ranks fetch what their shares take, as they go, and train to the bits of ranks that have all in memory", async () => {
  // Whole data in memory, with the order of chunks.
  const whole = [0, 1].map(() => remoteData(source, { chunkExamples, memoryBytes: 1e6 }));
  const reference = await Promise.all(whole.map(({ data }) => openRank({ engine, data, spec })));
  for (const { data } of whole) for (let i = 0; i < 40; i++) await data.train.chunks!.bring(i, never);
  await runAll(reference);
  // A peer has everything, memory is for one chunk.
  const remotes = [0, 1].map(() => remoteData(source, { chunkExamples, memoryBytes: 150 }));
  const ranks = await Promise.all(remotes.map(({ data }) => openRank({ engine, data, spec })));
  onTestFinished(() => {
    for (const { model } of [...reference, ...ranks]) model.close();
  });
  ranks[0]!.onStep = (step) => {
    if (step === 1) expect(remotes[0]!.fetched.length).toBeLessThan(40);
    expect(remotes[0]!.cache.bytes).toBeLessThanOrEqual(150);
  };
  await runAll(ranks);
  expect([...ranks[0]!.hashes]).toEqual([...reference[0]!.hashes]);
  const rings = memoryRings(2);
  const [one, two] = await Promise.all(ranks.map(({ trainer }, i) => trainer.evaluate(rings[i]!, never)));
  expect(one).toEqual(two);

  for (const [rank, { fetched, chunks }] of remotes.entries()) {
    const sampler = new Sampler({ exampleCount: 200, batchSize: 8, seed: 1, chunkExamples });
    const needed = new Set<string>();
    for (let step = 0; step < 50; step++) {
      for (const example of sampler.slice({ step, rank, worldSize: 2 }))
        needed.add(chunks.train[Math.floor(example / chunkExamples)]!);
    }
    const train = fetched.filter((digest) => chunks.train.includes(digest));
    expect(new Set(train)).toEqual(needed);
    expect(train).toHaveLength(needed.size); // each once
    expect(fetched.filter((digest) => chunks.test.includes(digest)).length).toBeLessThan(chunks.test.length);
  }
});

/** Ahead of a rank whose chunks come when the test says so. */
function waiting(send: (digest: string) => Promise<void>) {
  const clock = new FakeClock();
  const stall = new StallBound();
  for (let i = 0; i < 10; i++) stall.observe(10);
  const told: number[] = [];
  const { data, fetched } = remoteData(source, { chunkExamples, memoryBytes: 1e6, send });
  const sampler = new Sampler({ exampleCount: 200, batchSize: 8, seed: 1, chunkExamples });
  const onWait = (share: number) => told.push(share);
  const ahead = new DataAhead({ data, sampler, totalSteps: 50, clock, onWait });
  const ring = { hopTimeoutMs: stall.boundMs };
  const turnTo = (step: number, lateVotes = 0, place = { rank: 0, worldSize: 2 }) =>
    stall.allowWait(ahead.turnTo({ step, place, lateVotes }), ring);
  return { ahead, clock, told, ring, turnTo, fetched, data };
}

test("nobody counts as stalled while ranks may wait for data: at first, after a vote, and when places change", () => {
  const { turnTo, ring } = waiting(async () => {});
  const bounds: number[] = [];
  const note = () => bounds.push(ring.hopTimeoutMs);
  turnTo(0);
  note();
  turnTo(1);
  note();
  turnTo(2, 1);
  note();
  turnTo(3);
  note();
  turnTo(4, 0, { rank: 1, worldSize: 3 });
  note();
  const patient = limits.dataWaitTimeoutMs;
  expect(bounds).toEqual([patient, limits.stallMsMin, patient, limits.stallMsMin, patient]);
});

test("a rank that waits for chunks tells how far it is, and goes on when they are there", async () => {
  const sends: (() => void)[] = [];
  const { ahead, clock, told, turnTo } = waiting(() => new Promise((resolve) => sends.push(resolve)));
  turnTo(0);
  expect(ahead.isLate(0)).toBe(true);
  const arrives = ahead.arrive(0, () => {}, never);
  await clock.advance(limits.dataProgressIntervalMs);
  expect(told).toEqual([0]);
  while (sends.length > 0) {
    for (const send of sends.splice(0)) send();
    await clock.advance(1);
  }
  await arrives;
  expect(told).toEqual([0, 1]);
  expect(ahead.isLate(0)).toBe(false);
  expect(clock.pendingTimers).toBe(0);
});

test("a rank that waits for chunks leaves with its ring", async () => {
  const { ahead, clock, turnTo } = waiting(() => new Promise(() => {}));
  turnTo(0);
  let isBroken = false;
  const watch = () => {
    if (isBroken) throw new RingfoldError("RING_BROKEN", "the neighbour is gone");
  };
  const arrives = expect(ahead.arrive(0, watch, never)).rejects.toMatchObject({ code: "RING_BROKEN" });
  await clock.advance(500);
  isBroken = true;
  await clock.advance(100);
  await arrives;
  expect(clock.pendingTimers).toBe(0);
});

test("a chunk that nobody has at the moment is asked for again, up to a bound", async () => {
  const missing = new RingfoldError("ARTEFACT_MISSING", "no live peer holds it");
  let isBack = false;
  const { ahead, clock, turnTo, fetched } = waiting(async () => {
    if (!isBack) throw missing;
  });
  turnTo(0);
  const fails = expect(ahead.arrive(0, () => {}, never)).rejects.toBe(missing);
  await clock.advance(limits.dataMissingMs + 1_000);
  await fails;
  const asked = fetched.length;
  const arrives = ahead.arrive(0, () => {}, never);
  await clock.advance(1_500);
  isBack = true;
  await clock.advance(1_500);
  await arrives;
  expect(fetched.length).toBeGreaterThan(asked);
  expect(clock.pendingTimers).toBe(0);
});

describe("held-out chunks", () => {
  const missing = new RingfoldError("ARTEFACT_MISSING", "no live peer holds it");

  /** A rank that evaluates, of two; the other's holder of chunks comes back when the test says so. */
  function evaluating() {
    const holder = { isBack: false };
    const { ahead, clock, told, data, fetched } = waiting(async () => {
      if (!holder.isBack) throw missing;
    });
    const ring = { isBroken: false };
    const watch = () => {
      if (ring.isBroken) throw new RingfoldError("RING_BROKEN", "the neighbour is gone");
    };
    const model = {
      evaluate: async ({ exampleCount }: { readonly exampleCount: number }) => ({
        ...{ lossSum: exampleCount, targetCount: exampleCount, lossWeight: exampleCount, correctCount: 0 },
      }),
    };
    const { test: set, shape } = data;
    const parts = { model, set, target: shape.target, batch: new BatchBuffer(shape, 8), batchSize: 8 };
    const of = { ...parts, ahead, nextTurn: async () => {} };
    const evaluated = evaluateLocally(
      of,
      { asked: nothingAsked, place: { rank: 1, worldSize: 2 }, watch },
      never,
    );
    return { evaluated, clock, told, holder, ring, fetched };
  }

  test("that nobody has at the moment are waited for, and the coordinator is told", async () => {
    const { evaluated, clock, told, holder } = evaluating();
    await clock.advance(5_500);
    expect(told).toEqual([0, 0, 0, 0, 0]);
    holder.isBack = true;
    await clock.advance(10_000);
    const { totals } = await evaluated;
    expect([...totals]).toEqual([16, 0, 16, 16, 16, 16]);
    expect(told.at(-1)).toBe(1);
    expect(clock.pendingTimers).toBe(0);
  });

  test("are given up after the same time as those of a step", async () => {
    const { evaluated, clock } = evaluating();
    const fails = expect(evaluated).rejects.toBe(missing);
    await clock.advance(limits.dataMissingMs + 1_000);
    await fails;
    expect(clock.pendingTimers).toBe(0);
  });

  test("are not waited for where the ring is gone", async () => {
    const { evaluated, clock, ring } = evaluating();
    const fails = expect(evaluated).rejects.toMatchObject({ code: "RING_BROKEN" });
    await clock.advance(500);
    ring.isBroken = true;
    await clock.advance(100);
    await fails;
    expect(clock.pendingTimers).toBe(0);
  });
});
