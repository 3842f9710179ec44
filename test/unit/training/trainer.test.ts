import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { Engine, TrainableModel } from "../../../agent/engine/port.ts";
import { encodeState, restoreState, trainingPoint } from "../../../agent/training/training-state.ts";
import {
  memoryRings,
  openRank,
  type Rank,
  type RankOptions,
  runAll,
  settleAll,
  tinyData,
} from "../../fixtures/trainers.ts";

const never = new AbortController().signal;
/** 5 steps an epoch, the last one of 5 examples: uneven among any world of several. */
const data = tinyData(37);
const spec = { batchSize: 8, epochs: 3 };

const sgd = { kind: "sgd", learningRate: 0.5, momentum: 0 } as const;

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ prefer: "cpu" });
});
afterAll(() => engine.close());

async function openWorld(worldSize: number, options: Partial<RankOptions> = {}): Promise<Rank[]> {
  const ranks: Rank[] = [];
  for (let rank = 0; rank < worldSize; rank++) ranks.push(await openRank({ engine, data, spec, ...options }));
  onTestFinished(() => {
    for (const { model } of ranks) model.close();
  });
  return ranks;
}

const lossesOf = ({ reports }: Rank) => reports.map(({ loss }) => loss);

/** Sums in another order differ in the last bits of f32, and training amplifies that a little. */
function expectSameCurve(losses: readonly number[], reference: readonly number[]): void {
  expect(losses).toHaveLength(reference.length);
  losses.forEach((loss, i) => {
    expect(Math.abs(loss - reference[i]!)).toBeLessThan(1e-4);
  });
}

describe("a global batch over several ranks", () => {
  let reference: Rank;
  beforeAll(async () => {
    reference = await openRank({ engine, data, spec });
    await runAll([reference]);
  });
  afterAll(() => reference.model.close());

  test("one rank learns", () => {
    const losses = lossesOf(reference);
    expect(losses).toHaveLength(15);
    expect(losses.at(-1)!).toBeLessThan(0.8 * losses[0]!);
  });

  test.each([2, 3, 4])(
    "%i ranks follow the curve of one, with equal parameters after every step",
    async (worldSize) => {
      const ranks = await openWorld(worldSize);
      expect(await runAll(ranks)).toEqual(Array(worldSize).fill("done"));
      for (const rank of ranks) {
        expectSameCurve(lossesOf(rank), lossesOf(reference));
        expect(rank.reports.map(({ examples }) => examples)).toEqual(Array(3).fill([8, 8, 8, 8, 5]).flat());
        expect(rank.hashes).toEqual(ranks[0]!.hashes);
        expect(rank.hashes.size).toBe(15);
      }
    },
  );

  test("more ranks than examples in a batch: some have nothing to do, and nothing changes", async () => {
    const small = { spec: { batchSize: 3, epochs: 1 }, data: tinyData(10) };
    const [alone] = await openWorld(1, small);
    const ranks = await openWorld(4, small);
    await runAll([alone!]);
    await runAll(ranks);
    for (const rank of ranks) {
      expectSameCurve(lossesOf(rank), lossesOf(alone!));
      expect(rank.hashes).toEqual(ranks[0]!.hashes);
    }
  });

  test("a world that changes at step boundaries follows the same curve", async () => {
    const ranks = await openWorld(3);
    const pauseAt = (step: number) => {
      ranks[0]!.onStep = (done) => {
        if (done === step) ranks[0]!.trainer.requestPause();
      };
    };
    pauseAt(3);
    expect(await runAll(ranks.slice(0, 2))).toEqual(["paused", "paused"]);
    // The third rank joins: it copies the whole state, optimizer included.
    const checkpoint = encodeState(ranks[0]!.trainer.state, ranks[0]!.model.layout);
    restoreState(ranks[2]!.trainer.state, checkpoint, ranks[2]!.model.layout);
    ranks[2]!.trainer.adoptState();
    pauseAt(8);
    expect(await runAll(ranks)).toEqual(["paused", "paused", "paused"]);
    expect(await runAll(ranks.slice(0, 1))).toEqual(["done"]);
    expectSameCurve(lossesOf(ranks[0]!), lossesOf(reference));
    expect(ranks[2]!.hashes.get(9)).toBe(ranks[0]!.hashes.get(9));
  });
});

test("a step is the learning rate times the mean gradient, also of a batch that is not full", async () => {
  const five = { data: tinyData(5), spec: { batchSize: 8, epochs: 1, optimizer: sgd } };
  const [rank] = await openWorld(1, five);
  const { trainer, model } = rank!;
  const before = trainer.state.parameters.slice();
  const gradient = new Float32Array(before.length);
  const batch = { inputs: new Float32Array(5 * 16), targets: new Float32Array(5) };
  five.data.train.gather([0, 1, 2, 3, 4], batch.inputs, batch.targets);
  await model.gradient({ exampleCount: 5, ...batch }, gradient);
  await runAll([rank!]);
  trainer.state.parameters.forEach((value, i) => {
    expect(value).toBeCloseTo(before[i]! - (0.5 * gradient[i]!) / 5, 5);
  });
});

describe("micro-batches", () => {
  test.each([1, 2, 3])(
    "%i ranks that compute three examples at once follow the curve of one that computes all",
    async (worldSize) => {
      const [alone] = await openWorld(1);
      await runAll([alone!]);
      const sizes = new Set<number>();
      const watched = (model: TrainableModel): TrainableModel => ({
        ...model,
        gradient: (batch, gradient) => {
          sizes.add(batch.exampleCount);
          return model.gradient(batch, gradient);
        },
      });
      const ranks = await openWorld(worldSize, { spec: { ...spec, microBatchSize: 3 }, wrap: watched });
      await runAll(ranks);
      expect(Math.max(...sizes)).toBe(3);
      expectSameCurve(lossesOf(ranks[0]!), lossesOf(alone!));
      for (const rank of ranks) expect(rank.hashes).toEqual(ranks[0]!.hashes);
      expect(ranks[0]!.reports.map(({ examples }) => examples)).toEqual(
        Array(3).fill([8, 8, 8, 8, 5]).flat(),
      );
    },
  );

  test("hear a neighbour's death between two parts", async () => {
    const rings = memoryRings(2);
    let parts = 0;
    const counted = (model: TrainableModel): TrainableModel => ({
      ...model,
      gradient: (batch, gradient) => {
        if (++parts === 2) rings[1]!.destroy();
        return model.gradient(batch, gradient);
      },
    });
    const single = { ...spec, microBatchSize: 1 };
    const ranks = [
      ...(await openWorld(1, { spec: single, wrap: counted })),
      ...(await openWorld(1, { spec: single })),
    ];
    const outcomes = await settleAll(ranks, rings);
    expect(outcomes[0]).toMatchObject({ status: "rejected", reason: { code: "RING_BROKEN" } });
    expect(parts).toBe(2);
  });
});

describe("clipNorm", () => {
  const length = (vector: Float32Array) => Math.hypot(...vector);
  const stepOf = async (worldSize: number, clipNorm: number): Promise<Float32Array> => {
    const once = { data: tinyData(8), spec: { batchSize: 8, epochs: 1, optimizer: sgd, clipNorm } };
    const ranks = await openWorld(worldSize, once);
    const before = ranks[0]!.trainer.state.parameters.slice();
    await runAll(ranks);
    for (const rank of ranks) expect(rank.hashes).toEqual(ranks[0]!.hashes);
    return ranks[0]!.trainer.state.parameters.map((value, i) => value - before[i]!);
  };

  test("bounds the length of the mean gradient of the global batch, and keeps its direction", async () => {
    const whole = await stepOf(1, 1e9);
    const clip = 0.1 * length(whole); // the rate is 0.5: a fifth of the gradient
    for (const worldSize of [1, 3]) {
      const clipped = await stepOf(worldSize, clip);
      expect(length(clipped)).toBeCloseTo(0.5 * clip, 5);
      const factor = length(clipped) / length(whole);
      clipped.forEach((change, i) => void expect(change).toBeCloseTo(factor * whole[i]!, 5));
    }
  });
});

describe("a pause", () => {
  test.each([0, 1, 2])("asked of rank %i ends all ranks after the same step", async (asked) => {
    const ranks = await openWorld(3);
    ranks[asked]!.onStep = (step) => {
      if (step === 4) ranks[asked]!.trainer.requestPause();
    };
    expect(await runAll(ranks)).toEqual(["paused", "paused", "paused"]);
    expect(ranks.map(({ trainer }) => trainingPoint(trainer.state))).toEqual(
      Array(3).fill({ step: 5, hash: ranks[0]!.hashes.get(5) }),
    );
  });

  test("is over with the next run", async () => {
    const [rank] = await openWorld(1);
    rank!.onStep = (step) => {
      if (step === 2) rank!.trainer.requestPause();
    };
    expect(await runAll([rank!])).toEqual(["paused"]);
    expect(await runAll([rank!])).toEqual(["done"]);
    expect(rank!.trainer.state.step).toBe(rank!.trainer.totalSteps);
    expect(await runAll([rank!])).toEqual(["done"]);
  });
});

describe("a step that fails", () => {
  /** The real model, whose gradient has one NaN in its third step. */
  const poisoned = (model: TrainableModel): TrainableModel => {
    let steps = 0;
    return {
      ...model,
      gradient: async (batch, gradient) => {
        const result = await model.gradient(batch, gradient);
        if (++steps === 3) gradient[1] = Number.NaN;
        return result;
      },
    };
  };

  test("NaN on one rank names the step on every rank and touches no state", async () => {
    const ranks = [...(await openWorld(2)), ...(await openWorld(1, { wrap: poisoned }))];
    for (const outcome of await settleAll(ranks)) {
      expect(outcome).toMatchObject({
        status: "rejected",
        reason: { code: "NOT_FINITE", data: { step: 2 } },
      });
    }
    for (const { trainer, hashes } of ranks) {
      expect(trainingPoint(trainer.state)).toEqual({ step: 2, hash: ranks[0]!.hashes.get(2) });
      expect(hashes.size).toBe(2);
    }
  });

  test("an infinite loss is not finite either", async () => {
    const [rank] = await openWorld(1, {
      wrap: (model) => ({
        ...model,
        gradient: async (...parameters) => ({
          ...(await model.gradient(...parameters)),
          lossSum: Number.POSITIVE_INFINITY,
        }),
      }),
    });
    await expect(runAll([rank!])).rejects.toMatchObject({ code: "NOT_FINITE", data: { step: 0 } });
    expect(rank!.trainer.state.step).toBe(0);
  });

  test.each([0, 1, 2])(
    "when the ring breaks at rank %i, each rank stands at its last complete step",
    async (broken) => {
      const ranks = await openWorld(3);
      const rings = memoryRings(3);
      ranks[broken]!.onStep = (step) => {
        if (step === 3) rings[broken]!.destroy();
      };
      for (const outcome of await settleAll(ranks, rings)) {
        expect(outcome).toMatchObject({ status: "rejected", reason: { code: "RING_BROKEN" } });
      }
      for (const { trainer } of ranks) {
        const { step, hash } = trainingPoint(trainer.state);
        expect([2, 3]).toContain(step);
        expect(hash).toBe(ranks[broken]!.hashes.get(step));
      }
    },
  );

  test("who was interrupted trains on from there, in step with the others", async () => {
    const ranks = await openWorld(2);
    const rings = memoryRings(2);
    ranks[0]!.onStep = (step) => {
      if (step === 3) rings[0]!.destroy();
    };
    await settleAll(ranks, rings);
    const [first, second] = ranks.map(({ trainer }) => trainer);
    if (second!.state.step < first!.state.step) {
      restoreState(second!.state, encodeState(first!.state, ranks[0]!.model.layout), ranks[1]!.model.layout);
      second!.adoptState();
    }
    expect(await runAll(ranks)).toEqual(["done", "done"]);
    expect(trainingPoint(first!.state)).toEqual(trainingPoint(second!.state));
  });
});

test("the evaluation counts every held-out example once, in any world", async () => {
  const [alone] = await openWorld(1);
  await runAll([alone!]);
  const ringOfOne = memoryRings(1)[0]!;
  const expected = await alone!.trainer.evaluate(ringOfOne, never);
  expect(expected.examples).toBe(31);
  for (const worldSize of [2, 3, 40]) {
    const ranks = await openWorld(worldSize);
    const checkpoint = encodeState(alone!.trainer.state, alone!.model.layout);
    for (const { trainer, model } of ranks) {
      restoreState(trainer.state, checkpoint, model.layout);
      trainer.adoptState();
    }
    const rings = memoryRings(worldSize);
    const evaluations = await Promise.all(
      ranks.map(({ trainer }, rank) => trainer.evaluate(rings[rank]!, never)),
    );
    for (const evaluation of evaluations) {
      expect(evaluation).toEqual({ ...expected, loss: expect.closeTo(expected.loss, 5) });
    }
  }
});

test("the evaluation takes no more examples at once than a micro-batch has", async () => {
  const sizes: number[] = [];
  const wrap = (model: TrainableModel): TrainableModel => ({
    ...model,
    evaluate: (batch) => {
      sizes.push(batch.exampleCount);
      return model.evaluate(batch);
    },
  });
  const rank = await openRank({
    engine,
    data: tinyData(8, 31),
    spec: { batchSize: 16, microBatchSize: 8 },
    wrap,
  });
  await rank.trainer.evaluate(memoryRings(1)[0]!, never);
  rank.model.close();
  expect(sizes).toEqual([8, 8, 8, 7]);
});

test("no tensor leaks over a run", async () => {
  const before = engine.tensorCount();
  const rank = await openRank({ engine, data, spec });
  const opened = engine.tensorCount();
  await runAll([rank]);
  await rank.trainer.evaluate(memoryRings(1)[0]!, never);
  expect(engine.tensorCount()).toBe(opened);
  rank.model.close();
  expect(engine.tensorCount()).toBe(before);
});
