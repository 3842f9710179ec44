import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { Engine, TrainableModel } from "../../../agent/engine/port.ts";
import { trainingPoint } from "../../../agent/training/training-state.ts";
import { type JobSpec, jobSpecSchema } from "../../../protocol/job-spec.ts";
import { limits } from "../../../protocol/limits.ts";
import { memoryRings, openRank, type Rank, tinyData } from "../../fixtures/trainers.ts";

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ prefer: "cpu" });
});
afterAll(() => engine.close());

const never = new AbortController().signal;
const data = tinyData(96);

type Spoil = (step: number, gradient: Float32Array) => number | undefined;

/** The real model, of whose numbers `spoil` makes what it likes. @param spoil may return another loss */
const spoiled =
  (spoil: Spoil) =>
  (model: TrainableModel): TrainableModel => {
    let step = 0;
    return {
      ...model,
      gradient: async (batch, gradient) => {
        const result = await model.gradient(batch, gradient);
        const lossSum = spoil(step++, gradient) ?? result.lossSum;
        return { ...result, lossSum };
      },
    };
  };

/** Trains three ranks of which the second is spoiled, and says how each of them ended. */
async function train(spec: Partial<JobSpec>, spoil: Spoil, spoiledRanks: readonly number[] = [1]) {
  const ranks: Rank[] = [];
  for (const rank of [0, 1, 2]) {
    const wrap = spoiledRanks.includes(rank) ? { wrap: spoiled(spoil) } : {};
    ranks.push(await openRank({ engine, data, spec: { batchSize: 8, epochs: 2, ...spec }, ...wrap }));
  }
  const rings = memoryRings(3);
  const outcomes = await Promise.allSettled(ranks.map(({ trainer }, i) => trainer.run(rings[i]!, never)));
  for (const { model } of ranks) model.close();
  return { ranks, outcomes };
}

/** A NaN in the first parameter of the second layer. */
const nanAt =
  (...steps: number[]): Spoil =>
  (step, gradient) => {
    // The perceptron is 16-5-3: 80 weights and 5 biases come before the output layer.
    if (steps.includes(step)) gradient[85] = Number.NaN;
    return undefined;
  };

const expectReplicas = (ranks: readonly Rank[], step: number) => {
  const points = ranks.map(({ trainer }) => trainingPoint(trainer.state));
  expect(points).toEqual(points.map(() => ({ step, hash: points[0]!.hash })));
};

const ways: [string, Partial<JobSpec>][] = [
  ["f32", { wire: "f32" }],
  ["bf16", { wire: "bf16" }],
  ["int8", { wire: "int8" }],
  ["top-k", { topK: { fraction: 0.1 } }],
  ["averaging", { synchronization: { kind: "averaging", everySteps: 4 } }],
];

describe.each(ways)("%s", (_way, spec) => {
  test("stop: every rank names the rank, the parameter and the step, and no state is touched", async () => {
    const { ranks, outcomes } = await train({ ...spec, nonFinite: "stop" }, nanAt(6));
    for (const outcome of outcomes) {
      expect(outcome).toMatchObject({
        status: "rejected",
        reason: {
          code: "NOT_FINITE",
          message: expect.stringMatching(/^the gradient of \S+kernel is not finite on rank 1 at step 6$/),
          data: { rank: 1, step: 6 },
        },
      });
    }
    expectReplicas(ranks, spec.synchronization ? 4 : 6);
  });

  test("skip: the update is left out on every rank, and training goes on with finite numbers", async () => {
    const { ranks, outcomes } = await train({ ...spec, nonFinite: "skip" }, nanAt(6));
    expect(outcomes.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "fulfilled"]);
    expectReplicas(ranks, 24);
    expect(ranks.map(({ trainer }) => trainer.skippedCount)).toEqual([1, 1, 1]);
    const { trainer, hashes, reports } = ranks[0]!;
    expect(trainer.state.parameters.every((value) => Number.isFinite(value))).toBe(true);
    const [before, after] = spec.synchronization ? [4, 8] : [6, 7];
    expect(hashes.get(after)).toBe(hashes.get(before));
    expect(reports.filter(({ fault }) => fault).map(({ step, fault }) => [step, fault?.rank])).toEqual([
      [after, 1],
    ]);
    expect(reports.at(-1)!.loss).toBeLessThan(reports[0]!.loss);
  });
});

test("a loss that is not finite is named as such, and several ranks are counted", async () => {
  const { outcomes } = await train({}, (step) => (step === 3 ? Number.NaN : undefined), [1, 2]);
  expect(outcomes[0]).toMatchObject({
    reason: {
      message: "the loss is not finite on rank 1 and on 1 more at step 3",
      data: { parameter: "loss" },
    },
  });
});

test("numbers that are finite on each rank and not in their sum are nobody's fault, and skipped alike", async () => {
  const huge: Spoil = (step, gradient) => {
    if (step === 2) gradient.fill(3e38);
    return undefined;
  };
  const stopped = await train({}, huge, [0, 1, 2]);
  expect(stopped.outcomes[2]).toMatchObject({
    reason: { code: "NOT_FINITE", data: { rank: null, step: 2 } },
  });
  const { ranks } = await train({ nonFinite: "skip" }, huge, [0, 1, 2]);
  expectReplicas(ranks, 24);
  expect(ranks[0]!.trainer.skippedCount).toBe(1);
});

test("no rank is left with a number to report: the skipped update has no example", async () => {
  const { ranks } = await train({ nonFinite: "skip" }, nanAt(2), [0, 1, 2]);
  expectReplicas(ranks, 24);
  expect(ranks[0]!.reports[2]).toMatchObject({ step: 3, examples: 0 });
});

test("so many skips in a row are a lost model: every rank stops", async () => {
  const { ranks, outcomes } = await train({ nonFinite: "skip" }, (_step, gradient) => {
    gradient[0] = Number.NEGATIVE_INFINITY;
    return undefined;
  });
  for (const outcome of outcomes) {
    expect(outcome).toMatchObject({
      reason: { code: "NOT_FINITE", message: expect.stringContaining("10 updates before it were skipped") },
    });
  }
  expectReplicas(ranks, limits.skippedInRowMax);
});

test("a job stops unless told", () => {
  const spec = { name: "digits", model: { architecture: "cnn" }, data: { source: "mnist" } };
  expect(jobSpecSchema.parse(spec).nonFinite).toBe("stop");
});
