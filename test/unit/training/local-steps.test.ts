import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { Engine, TrainableModel } from "../../../agent/engine/port.ts";
import { Sampler } from "../../../agent/training/sampler.ts";
import { encodeState, restoreState, trainingPoint } from "../../../agent/training/training-state.ts";
import type { JobSpec, SynchronizationSpec } from "../../../protocol/job-spec.ts";
import { exampleSpec } from "../../fixtures/messages.ts";
import {
  memoryRings,
  openRank,
  type Rank,
  type RankOptions,
  runAll,
  settleAll,
  tinyData,
} from "../../fixtures/trainers.ts";

/** 5 steps an epoch, 15 in all: synchronization points at 4, 8, 12 and at the end. */
const data = tinyData(37);
const sgd = { kind: "sgd", learningRate: 0.1, momentum: 0 } as const;
const averaging: SynchronizationSpec = { kind: "averaging", everySteps: 4 };
const diloco: SynchronizationSpec = {
  ...{ kind: "diloco", everySteps: 4 },
  ...{ outerLearningRate: 0.7, outerMomentum: 0.9 },
};
const spec: Partial<JobSpec> = { batchSize: 8, epochs: 3, synchronization: diloco };

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ prefer: "cpu" });
});
afterAll(() => engine.close());

async function openWorld(
  worldSize: number,
  changes: Partial<JobSpec> = {},
  options: Partial<RankOptions> = {},
): Promise<Rank[]> {
  const ranks: Rank[] = [];
  for (let rank = 0; rank < worldSize; rank++)
    ranks.push(await openRank({ engine, data, spec: { ...spec, ...changes }, ...options }));
  onTestFinished(() => {
    for (const { model } of ranks) model.close();
  });
  return ranks;
}

const pointOf = ({ trainer }: Rank) => trainingPoint(trainer.state);

/** As an agent heals from another: everything that it will have in common with the others travels. */
function heal(rank: Rank, source: Rank): void {
  restoreState(rank.trainer.state, encodeState(source.trainer.state, source.model.layout), rank.model.layout);
  rank.trainer.adoptState();
}

const exchanges: [string, Partial<JobSpec>][] = [
  ["f32", {}],
  ["bf16", { wire: "bf16" }],
  ["int8", { wire: "int8" }],
  ["top-k", { topK: { fraction: 0.1 } }],
];

describe.each([averaging, diloco])("$kind", (synchronization) => {
  test.each(exchanges)(
    "%s: ranks are equal at every synchronization point, and learn",
    async (_name, how) => {
      const ranks = await openWorld(3, { synchronization, ...how });
      expect(await runAll(ranks)).toEqual(["done", "done", "done"]);
      for (const { hashes, reports } of ranks) {
        expect([...hashes.keys()]).toEqual([4, 8, 12, 15]);
        expect(hashes).toEqual(ranks[0]!.hashes);
        expect(reports.map(({ step, stepCount, examples }) => [step, stepCount, examples])).toEqual([
          [4, 4, 32],
          [8, 4, 8 + 5 + 8 + 8],
          [12, 4, 8 + 8 + 5 + 8],
          [15, 3, 8 + 8 + 5],
        ]);
        expect(reports.map(({ loss }) => loss)).toEqual(ranks[0]!.reports.map(({ loss }) => loss));
      }
      const losses = ranks[0]!.reports.map(({ loss }) => loss);
      expect(losses.at(-1)!).toBeLessThan(losses[0]!);
    },
  );
});

/** Algorithm 1 of DiLoCo with plain SGD inside, in doubles, one rank after the other: what the ranks must come to. */
async function reference(worldSize: number, totalSteps: number): Promise<Float32Array> {
  const { trainer, model } = (await openWorld(1))[0]!;
  const sampler = new Sampler({ exampleCount: data.train.count, batchSize: 8, seed: exampleSpec({}).seed });
  const gradient = new Float32Array(trainer.state.parameters.length);
  let common = Float64Array.from(trainer.state.parameters);
  const velocity = new Float64Array(common.length);
  for (let from = 0; from < totalSteps; from += 4) {
    const change = new Float64Array(common.length);
    for (let rank = 0; rank < worldSize; rank++) {
      const own = common.slice();
      for (let step = from; step < Math.min(from + 4, totalSteps); step++) {
        model.writeParameters(Float32Array.from(own));
        const indices = sampler.slice({ step, rank, worldSize });
        const batch = { inputs: new Float32Array(8 * 16), targets: new Float32Array(8) };
        data.train.gather(indices, batch.inputs, batch.targets);
        await model.gradient({ exampleCount: indices.length, ...batch }, gradient);
        for (let i = 0; i < own.length; i++) own[i]! -= (sgd.learningRate * gradient[i]!) / indices.length;
      }
      for (let i = 0; i < own.length; i++) change[i]! += (own[i]! - common[i]!) / worldSize;
    }
    common = common.map((value, i) => {
      velocity[i] = 0.9 * velocity[i]! + change[i]!;
      return value + 0.7 * (change[i]! + 0.9 * velocity[i]!);
    });
  }
  return Float32Array.from(common);
}

test("the parameters are those of the algorithm, step by step", async () => {
  const ranks = await openWorld(2, { optimizer: sgd });
  await runAll(ranks);
  const expected = await reference(2, ranks[0]!.trainer.totalSteps);
  for (const [i, value] of ranks[0]!.trainer.state.parameters.entries())
    expect(Math.abs(value - expected[i]!)).toBeLessThan(1e-4);
});

test("DiLoCo without momentum and with a rate of 1 is averaging", async () => {
  const plain = { kind: "diloco", everySteps: 4, outerLearningRate: 1, outerMomentum: 0 } as const;
  const worlds = [
    await openWorld(2, { synchronization: plain }),
    await openWorld(2, { synchronization: averaging }),
  ];
  for (const world of worlds) await runAll(world);
  expect(worlds[0]![0]!.trainer.state.parameters).toEqual(worlds[1]![0]!.trainer.state.parameters);
});

test("one rank that averages with nobody trains as if it met nobody", async () => {
  const [alone] = await openWorld(1, { optimizer: sgd, synchronization: averaging });
  const [plain] = await openWorld(1, { optimizer: sgd, synchronization: { kind: "every-step" } });
  await runAll([alone!]);
  await runAll([plain!]);
  for (const [i, value] of plain!.trainer.state.parameters.entries())
    expect(alone!.trainer.state.parameters[i]).toBeCloseTo(value, 5);
});

test("more ranks than examples in a batch: some have nothing to do, and all agree", async () => {
  const ranks = await openWorld(4, { batchSize: 3, epochs: 1 }, { data: tinyData(10) });
  await runAll(ranks);
  for (const rank of ranks) expect(rank.hashes).toEqual(ranks[0]!.hashes);
});

describe("a ring that breaks between two synchronization points", () => {
  test("takes the local steps back: every rank stands at a synchronization point", async () => {
    const ranks = await openWorld(3);
    const rings = memoryRings(3);
    ranks[1]!.onStep = (step) => {
      if (step === 8) rings[1]!.destroy();
    };
    for (const outcome of await settleAll(ranks, rings))
      expect(outcome).toMatchObject({ status: "rejected", reason: { code: "RING_BROKEN" } });
    for (const rank of ranks) {
      const { step, hash } = pointOf(rank);
      expect([4, 8]).toContain(step);
      expect(hash).toBe(ranks[1]!.hashes.get(step));
    }
  });

  test("is noticed before the ranks meet again", async () => {
    const ranks = await openWorld(2);
    const rings = memoryRings(2);
    const gradients = { count: 0 };
    const counted = (model: TrainableModel): TrainableModel => ({
      ...model,
      gradient: (batch, gradient) => {
        // In the second of its local steps the other rank is gone.
        if (++gradients.count === 2) rings[1]!.destroy();
        return model.gradient(batch, gradient);
      },
    });
    const [watched] = await openWorld(1, {}, { wrap: counted });
    const outcomes = await settleAll([watched!, ranks[1]!], rings);
    expect(outcomes[0]).toMatchObject({ status: "rejected", reason: { code: "RING_BROKEN" } });
    expect(gradients.count).toBe(2);
    expect(watched!.trainer.state.step).toBe(0);
  });

  test("goes on with the bits of a rank that was restarted, whoever heals", async () => {
    const ranks = await openWorld(2, { wire: "int8" });
    const rings = memoryRings(2);
    ranks[0]!.onStep = (step) => {
      if (step === 8) rings[0]!.destroy();
    };
    await settleAll(ranks, rings);
    if (ranks[1]!.trainer.state.step < 8) heal(ranks[1]!, ranks[0]!);
    // Two new processes, from the same checkpoint: what the survivors still know of their local steps must not count.
    const restarted = await openWorld(2, { wire: "int8" });
    for (const rank of restarted) heal(rank, ranks[0]!);
    expect(await runAll(ranks)).toEqual(["done", "done"]);
    expect(await runAll(restarted)).toEqual(["done", "done"]);
    expect([...ranks, ...restarted].map(pointOf)).toEqual(Array(4).fill(pointOf(ranks[0]!)));
  });
});

test("a stop is noticed within a step, however far the next synchronization point is", async () => {
  const stop = new AbortController();
  let gradients = 0;
  const counted = (model: TrainableModel): TrainableModel => ({
    ...model,
    gradient: (batch, gradient) => {
      if (++gradients === 2) stop.abort();
      return model.gradient(batch, gradient);
    },
  });
  const [rank] = await openWorld(
    1,
    { synchronization: { kind: "averaging", everySteps: 100_000 } },
    { wrap: counted },
  );
  await expect(rank!.trainer.run(memoryRings(1)[0]!, stop.signal)).rejects.toMatchObject({
    code: "CANCELLED",
  });
  expect(gradients).toBe(2);
});

test("a pause waits for the next synchronization point, and a rank that joins there goes on with the others", async () => {
  const ranks = await openWorld(3);
  ranks[1]!.trainer.requestPause(); // forgotten: it was asked before the run
  ranks[0]!.onStep = (step) => {
    if (step === 4) ranks[0]!.trainer.requestPause();
  };
  expect(await runAll(ranks.slice(0, 2))).toEqual(["paused", "paused"]);
  expect(ranks.slice(0, 2).map(({ trainer }) => trainer.state.step)).toEqual([8, 8]);
  heal(ranks[2]!, ranks[0]!);
  expect(await runAll(ranks)).toEqual(["done", "done", "done"]);
  for (const rank of ranks) expect(pointOf(rank)).toEqual(pointOf(ranks[0]!));
});

test("the point tells states apart that differ in the outer momentum alone", async () => {
  const [rank] = await openWorld(1);
  const before = pointOf(rank!);
  rank!.trainer.state.slots.outerVelocity![3] = 0.5;
  expect(pointOf(rank!).hash).not.toBe(before.hash);
});

test.each(exchanges)(
  "%s: a NaN in one rank's local steps ends the training of all at the same point",
  async (_name, how) => {
    const poisoned = (model: TrainableModel): TrainableModel => {
      let steps = 0;
      return {
        ...model,
        gradient: async (batch, gradient) => {
          const result = await model.gradient(batch, gradient);
          if (++steps === 6) gradient[1] = Number.NaN;
          return result;
        },
      };
    };
    const ranks = [...(await openWorld(2, how)), ...(await openWorld(1, how, { wrap: poisoned }))];
    for (const outcome of await settleAll(ranks))
      expect(outcome).toMatchObject({
        status: "rejected",
        reason: { code: "NOT_FINITE", data: { rank: 2, step: 5 } },
      });
    for (const rank of ranks) expect(pointOf(rank)).toEqual({ step: 4, hash: ranks[0]!.hashes.get(4) });
  },
);
