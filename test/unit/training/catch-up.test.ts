import { setImmediate as nextTurn } from "node:timers/promises";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { Engine, TrainableModel } from "../../../agent/engine/port.ts";
import { CatchUp } from "../../../agent/training/healing/catch-up.ts";
import type { Entry } from "../../../agent/training/healing/entry.ts";
import { encodeState, trainingPoint } from "../../../agent/training/training-state.ts";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import { binaryData, memoryRings, openRank, type Rank, tinyData } from "../../fixtures/trainers.ts";
import { FakeClock } from "../../simulation/fake-clock.ts";

const never = new AbortController().signal;
const data = tinyData(37);
const base = { batchSize: 8, epochs: 4 };

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ prefer: "cpu" });
});
afterAll(() => engine.close());

type Wrap = (model: TrainableModel) => TrainableModel;

async function openRanks(count: number, spec: Partial<JobSpec>, wrap?: Wrap, of = data): Promise<Rank[]> {
  const ranks = await Promise.all(
    Array.from({ length: count }, () =>
      openRank({ engine, data: of, spec: { ...base, ...spec }, ...(wrap ? { wrap } : {}) }),
    ),
  );
  onTestFinished(() => {
    for (const { model } of ranks) model.close();
  });
  return ranks;
}

const layoutOf = ({ model }: Rank) => model.layout;

/** Two ranks train one epoch; then a third one comes, whose copy of the state arrives after so many of its rounds. */
async function trainWithLateRank(spec: Partial<JobSpec>, roundsLate: number, wrap?: Wrap, of = data) {
  const ranks = await openRanks(3, spec, wrap, of);
  const [first, second, late] = ranks as [Rank, Rank, Rank];
  first.onStep = second.onStep = (step) => {
    if (step >= 5) first.trainer.requestPause();
  };
  // The pause is asked for after the fifth step, and comes with the next synchronization point.
  const pair = memoryRings(2);
  await Promise.all([first, second].map(({ trainer }, rank) => trainer.run(pair[rank]!, never)));
  const start = first.trainer.state.step;
  const state = encodeState(first.trainer.state, layoutOf(first));
  first.onStep = second.onStep = () => {};

  const arrival = Promise.withResolvers<Uint8Array>();
  const healedAt: number[] = [];
  const entry = (rank: number): Entry => ({
    step: start,
    healingCount: 1,
    place: { rank: rank === 2 ? -1 : rank, worldSize: 2 },
    ...(rank === 2 ? { catchUp: new CatchUp(arrival.promise) } : {}),
    restore: (bytes) => late.trainer.restoreState(bytes),
    onHealed: () => healedAt.push(late.trainer.state.step),
    onAllHealed: () => {},
  });
  let rounds = 0;
  first.onStep = () => {
    if (++rounds === roundsLate) arrival.resolve(state);
  };
  if (roundsLate === 0) arrival.resolve(state);
  const rings = memoryRings(3);
  const outcomes = await Promise.all(
    ranks.map(({ trainer }, rank) => trainer.run(rings[rank]!, never, entry(rank))),
  );
  return { ranks, late, outcomes, healedAt, start };
}

test.each([
  ["every step", {}],
  ["int8", { wire: "int8" as const }],
  ["averaging", { synchronization: { kind: "averaging" as const, everySteps: 3 } }],
])("a rank that heals while the others train ends with their parameters (%s)", async (_, spec) => {
  const { ranks, outcomes, late, healedAt, start } = await trainWithLateRank(spec, 2);
  expect(outcomes).toEqual(["done", "done", "done"]);
  const points = ranks.map(({ trainer }) => trainingPoint(trainer.state));
  expect(new Set(points.map(({ hash }) => hash)).size).toBe(1);
  expect(healedAt).toHaveLength(1);
  expect(healedAt[0]).toBeGreaterThan(start);
  // It committed with the others from then on, each step with the same bits.
  for (const [step, hash] of late.hashes) expect(hash).toBe(ranks[0]!.hashes.get(step));
  expect(late.hashes.size).toBeGreaterThan(2);
});

/** The real model, whose gradient is not finite in its `step`-th call. */
const poisonedAt =
  (step: number): Wrap =>
  (model) => {
    let calls = 0;
    return {
      ...model,
      gradient: async (batch, gradient) => {
        const result = await model.gradient(batch, gradient);
        if (calls++ === step) gradient[1] = Number.NaN;
        return result;
      },
    };
  };

test.each([
  ["every step", {}, 7],
  ["averaging", { synchronization: { kind: "averaging" as const, everySteps: 3 } }, 10],
])("an update that all have skipped is skipped by who heals, too (%s)", async (_, spec, step) => {
  const late = await trainWithLateRank({ ...spec, nonFinite: "skip" }, 2, poisonedAt(step));
  expect(late.start).toBeLessThanOrEqual(step);
  expect(late.healedAt[0]).toBeGreaterThan(step);
  expect(late.outcomes).toEqual(["done", "done", "done"]);
  expect(new Set(late.ranks.map(({ trainer }) => trainingPoint(trainer.state).hash)).size).toBe(1);
  expect(late.ranks[0]!.trainer.state.parameters.every(Number.isFinite)).toBe(true);
  expect(late.ranks[0]!.reports.some(({ fault }) => fault?.step === step)).toBe(true);
});

test.each([
  ["loss", 0, data],
  ["loss", 2, data],
  ["loss", 7, data],
  ["auc", 0, binaryData()],
  ["auc", 2, binaryData()],
  ["auc", 7, binaryData()],
] as const)(
  "a training that stops early, by %s, stops for who heals, too, with the state %i rounds late",
  async (metric, roundsLate, of) => {
    const evaluation = { everySteps: 4, patience: 2, metric, minDelta: 1e9 };
    const { ranks, outcomes, late } = await trainWithLateRank({ evaluation }, roundsLate, undefined, of);
    expect(outcomes).toEqual(["done", "done", "done"]);
    expect(late.trainer.state.step).toBe(13);
    for (const { trainer } of ranks) {
      expect(trainer.point()).toEqual(late.trainer.point());
      expect(trainer.state.scalars).toEqual(late.trainer.state.scalars);
    }
  },
);

test("a state that is there at once costs no more than a round", async () => {
  const { healedAt, start } = await trainWithLateRank({}, 0);
  expect(healedAt).toEqual([start + 1]);
});

test("the curve is that of an undisturbed run: the others share the whole batch meanwhile", async () => {
  const { ranks } = await trainWithLateRank({}, 3);
  const [reference] = await openRanks(1, {});
  await reference!.trainer.run(memoryRings(1)[0]!, never);
  const losses = ranks[0]!.reports.map(({ loss }) => loss);
  expect(losses).toHaveLength(reference!.reports.length);
  losses.forEach((loss, i) => {
    expect(Math.abs(loss - reference!.reports[i]!.loss)).toBeLessThan(1e-4);
  });
});

test("when the ring has made its last step the others see that who heals is alive, however long it takes", async () => {
  const clock = new FakeClock();
  const ranks = await Promise.all(
    [0, 1, 2].map(() => openRank({ engine, data, clock, spec: { ...base, epochs: 1 } })),
  );
  onTestFinished(() => {
    for (const { model } of ranks) model.close();
  });
  const [first, , late] = ranks as [Rank, Rank, Rank];
  const state = encodeState(first.trainer.state, layoutOf(first));
  const arrival = Promise.withResolvers<Uint8Array>();
  let allHealed = 0;
  const entry = (rank: number): Entry => ({
    ...{ step: 0, healingCount: 1, place: { rank: rank === 2 ? -1 : rank, worldSize: 2 } },
    ...(rank === 2 ? { catchUp: new CatchUp(arrival.promise) } : {}),
    ...{ restore: (bytes) => late.trainer.restoreState(bytes), onHealed: () => {} },
    onAllHealed: () => {
      allHealed++;
    },
  });
  const rings = memoryRings(3);
  const runs = Promise.all(ranks.map(({ trainer }, rank) => trainer.run(rings[rank]!, never, entry(rank))));
  while (first.trainer.state.step < first.trainer.totalSteps || clock.pendingTimers === 0) await nextTurn();
  const sentBefore = rings[0]!.sentBytes;
  for (let second = 0; second < 90; second++) await clock.advance(1_000);
  expect(rings[0]!.sentBytes).toBeGreaterThan(sentBefore + 90 * 64);
  expect(late.trainer.state.step).toBe(0);
  arrival.resolve(state);
  expect(await runs).toEqual(["done", "done", "done"]);
  expect(new Set(ranks.map(({ trainer }) => trainingPoint(trainer.state).hash)).size).toBe(1);
  expect([allHealed, clock.pendingTimers]).toEqual([3, 0]);
});

test("a state that never comes leaves the rank where it was", async () => {
  const [first, late] = (await openRanks(2, {})) as [Rank, Rank];
  const before = trainingPoint(late.trainer.state);
  const entry = (rank: number, catchUp?: CatchUp): Entry => ({
    ...{ step: 0, healingCount: 1, place: { rank, worldSize: 1 } },
    ...{ restore: async () => {}, onHealed: () => {}, onAllHealed: () => {} },
    ...(catchUp ? { catchUp } : {}),
  });
  const rings = memoryRings(2);
  const failing = Promise.withResolvers<Uint8Array>();
  first.onStep = (step) => {
    if (step === 3) failing.reject(new Error("the source is gone"));
  };
  const outcomes = await Promise.allSettled([
    first.trainer.run(rings[0]!, never, entry(0)),
    late.trainer
      .run(rings[1]!, never, entry(-1, new CatchUp(failing.promise)))
      .finally(() => rings[1]!.destroy()),
  ]);
  await nextTurn();
  expect(outcomes[1]).toMatchObject({ status: "rejected", reason: { message: "the source is gone" } });
  expect(outcomes[0]).toMatchObject({ status: "rejected", reason: { code: "RING_BROKEN" } });
  expect(trainingPoint(late.trainer.state)).toEqual(before);
  expect(first.trainer.state.step).toBeGreaterThanOrEqual(3);
});

const parameterBytes = 4 * (16 * 5 + 5 + 5 * 3 + 3);

test.each([
  ["so many rounds", { bytesMax: 0, roundsMin: 4 }, 4],
  ["so many bytes", { bytesMax: 3 * parameterBytes, roundsMin: 1 }, 3],
])("when who heals has kept %s, all wait for it, and go on together", async (_, catchUpRule, keptMax) => {
  const clock = new FakeClock();
  const ranks = await Promise.all(
    [0, 1, 2].map(() => openRank({ engine, data, clock, spec: { ...base, epochs: 2 }, catchUpRule })),
  );
  onTestFinished(() => {
    for (const { model } of ranks) model.close();
  });
  const [first, , late] = ranks as [Rank, Rank, Rank];
  const state = encodeState(first.trainer.state, layoutOf(first));
  const arrival = Promise.withResolvers<Uint8Array>();
  const catchUp = new CatchUp(arrival.promise);
  let kept = 0;
  const keep = catchUp.keep.bind(catchUp);
  catchUp.keep = (round) => {
    kept++;
    keep(round);
  };
  let allHealed = 0;
  const entry = (rank: number): Entry => ({
    ...{ step: 0, healingCount: 1, place: { rank: rank === 2 ? -1 : rank, worldSize: 2 } },
    ...(rank === 2 ? { catchUp } : {}),
    ...{ restore: (bytes) => late.trainer.restoreState(bytes), onHealed: () => {} },
    onAllHealed: () => {
      allHealed++;
    },
  });
  const rings = memoryRings(3);
  const runs = Promise.all(ranks.map(({ trainer }, rank) => trainer.run(rings[rank]!, never, entry(rank))));
  while (first.trainer.state.step < keptMax || clock.pendingTimers === 0) await nextTurn();
  // However long the copy takes: nobody takes a step, nobody counts as stalled, nothing more is kept.
  for (let second = 0; second < 90; second++) await clock.advance(1_000);
  expect([first.trainer.state.step, kept, allHealed]).toEqual([keptMax, keptMax, 0]);
  arrival.resolve(state);
  await clock.advance(1_000);
  expect(await runs).toEqual(["done", "done", "done"]);
  expect(new Set(ranks.map(({ trainer }) => trainingPoint(trainer.state).hash)).size).toBe(1);
  expect([kept, allHealed, clock.pendingTimers]).toEqual([keptMax, 3, 0]);
  for (const [step, hash] of late.hashes) expect(hash).toBe(first.hashes.get(step));
});
