import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { Dataset } from "../../../agent/data/dataset.ts";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { Engine, TrainableModel } from "../../../agent/engine/port.ts";
import { EarlyStopping } from "../../../agent/training/early-stopping.ts";
import { initialState, trainingPoint } from "../../../agent/training/training-state.ts";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import type { Evaluation } from "../../../protocol/messages/job-report.ts";
import type { EvaluationSpec } from "../../../protocol/training-spec.ts";
import {
  binaryData,
  memoryRings,
  openRank,
  type Rank,
  runAll,
  settleAll,
  tinyData,
} from "../../fixtures/trainers.ts";

/** 5 steps an epoch. */
const data = tinyData(37);
const base = { batchSize: 8, epochs: 6 };
const never = new AbortController().signal;

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ prefer: "cpu" });
});
afterAll(() => engine.close());

type Wrap = (model: TrainableModel) => TrainableModel;

/** @param of.wraps by rank */
async function openWorld(
  worldSize: number,
  spec: Partial<JobSpec>,
  { data: set = data, wraps = [] }: { readonly data?: Dataset; readonly wraps?: readonly Wrap[] } = {},
): Promise<Rank[]> {
  const ranks = await Promise.all(
    Array.from({ length: worldSize }, (_, rank) => {
      const wrap = wraps[rank];
      return openRank({ engine, data: set, spec: { ...base, ...spec }, ...(wrap ? { wrap } : {}) });
    }),
  );
  onTestFinished(() => {
    for (const { model } of ranks) model.close();
  });
  return ranks;
}

const evaluationsOf = ({ reports }: Rank) => reports.flatMap(({ evaluation }) => evaluation ?? []);
const every = (changes: Partial<EvaluationSpec>): EvaluationSpec => ({
  ...{ everySteps: 4, metric: "loss", minDelta: 0 },
  ...changes,
});
/** No gain is large enough: the first evaluation stays the best. */
const hopeless = every({ patience: 2, minDelta: 1e9 });

describe("evaluation while training", () => {
  test.each([1, 2, 3])(
    "in a world of %i: the same numbers on every rank, and no other training",
    async (worldSize) => {
      const plain = await openWorld(worldSize, {});
      const ranks = await openWorld(worldSize, { evaluation: every({}) });
      await runAll(plain);
      expect(await runAll(ranks)).toEqual(Array(worldSize).fill("done"));
      for (const rank of ranks) {
        expect(evaluationsOf(rank)).toEqual(evaluationsOf(ranks[0]!));
        expect(rank.hashes).toEqual(plain[0]!.hashes);
      }
      expect(evaluationsOf(ranks[0]!).map(({ step, examples }) => [step, examples])).toEqual(
        [4, 8, 12, 16, 20, 24, 28].map((step) => [step, 31]),
      );
    },
  );

  test("tells of the state before the round, as an evaluation of its own would", async () => {
    const ranks = await openWorld(2, { evaluation: every({}) });
    ranks[0]!.onStep = (step) => {
      if (step === 7) ranks[0]!.trainer.requestPause();
    };
    await runAll(ranks);
    const rings = memoryRings(2);
    const own = await Promise.all(ranks.map(({ trainer }, rank) => trainer.evaluate(rings[rank]!, never)));
    await runAll(ranks);
    const { step, loss, accuracy } = evaluationsOf(ranks[0]!)[1]!;
    expect([step, accuracy]).toEqual([8, own[0]!.accuracy]);
    expect(loss).toBeCloseTo(own[0]!.loss, 5);
  });

  test("by epochs, and at synchronization points where ranks take local steps", async () => {
    const [epochs] = await openWorld(1, { evaluation: { everyEpochs: 2, metric: "loss", minDelta: 0 } });
    await runAll([epochs!]);
    expect(evaluationsOf(epochs!).map(({ step }) => step)).toEqual([10, 20]);
    const synchronization = { kind: "averaging", everySteps: 6 } as const;
    const local = await openWorld(2, { evaluation: every({}), synchronization });
    await runAll(local);
    expect(evaluationsOf(local[1]!).map(({ step }) => step)).toEqual([6, 12, 18, 24]);
  });
});

describe("the area under the ROC curve, which is no sum", () => {
  const byArea = every({ metric: "auc" });
  const openBinary = (worldSize: number, spec: Partial<JobSpec> = {}, wraps: readonly Wrap[] = []) =>
    openWorld(worldSize, { evaluation: byArea, ...spec }, { data: binaryData(), wraps });

  test.each([1, 2, 3])(
    "in a world of %i: as an evaluation of its own, and no other training",
    async (size) => {
      const ranks = await openBinary(size);
      const plain = await openBinary(size, { evaluation: every({}) });
      await Promise.all([runAll(ranks), runAll(plain)]);
      for (const rank of ranks) {
        expect(rank.hashes).toEqual(plain[0]!.hashes);
        expect(evaluationsOf(rank)).toEqual(evaluationsOf(ranks[0]!));
      }
      const [paused] = await openBinary(1);
      paused!.onStep = (step) => {
        if (step === 11) paused!.trainer.requestPause();
      };
      await runAll([paused!]);
      const own = await paused!.trainer.evaluate(memoryRings(1)[0]!, never);
      const { step, metrics } = evaluationsOf(ranks[0]!)[2]!;
      expect(step).toBe(12);
      expect(metrics.auc).toBeCloseTo(own.metrics.auc!, 5);
    },
  );

  test("keeps the best state by it, and stops by it", async () => {
    const spec = { evaluation: { ...byArea, patience: 2, minDelta: 1e9 } };
    const stopping = await openBinary(2, spec);
    await runAll(stopping);
    expect(stopping.map(({ trainer }) => trainer.point().step)).toEqual([13, 13]);
    const checkpoint = { everySteps: 200, keepLast: 1, keepBest: true };
    // The learning rate grows until it wrecks the model.
    const optimizer = { kind: "sgd", learningRate: 200, momentum: 0 } as const;
    const schedule = { kind: "constant", warmupSteps: 30 } as const;
    const ranks = await openBinary(2, { checkpoint, optimizer, schedule, nonFinite: "skip" });
    await runAll(ranks);
    const rings = memoryRings(2);
    const settled = await Promise.all(ranks.map(({ trainer }, i) => trainer.settle(rings[i]!, never)));
    const areas = evaluationsOf(ranks[0]!).map(({ metrics }) => metrics.auc!);
    const last = await evaluated(ranks);
    expect(settled[0]!.evaluation.metrics.auc).toBeCloseTo(Math.max(...areas, last.metrics.auc!), 6);
    expect(settled[1]).toEqual(settled[0]);
  });

  test("is known to all who apply the step, or to nobody, wherever the ring breaks in it", async () => {
    for (const breaksAt of ["evaluation", "gradient"] as const) {
      let calls = 0;
      const breaking: Wrap = (model) => ({
        ...model,
        evaluate: async (batch) => {
          const result = await model.evaluate(batch);
          if (breaksAt === "evaluation" && ++calls === 2) rings[1]!.destroy();
          return result;
        },
        gradient: async (batch, gradient) => {
          if (breaksAt === "gradient" && ++calls === 9) rings[1]!.destroy();
          return model.gradient(batch, gradient);
        },
      });
      const ranks = await openBinary(2, {}, [(model) => model, breaking]);
      const rings = memoryRings(2);
      const outcomes = await settleAll(ranks, rings);
      expect(outcomes.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
      for (const { trainer } of ranks) {
        expect(trainer.state.scalars).toMatchObject({ evaluationCount: 1, bestStep: 4 });
        expect(trainer.state.step).toBe(8);
      }
      // In the next ring the same evaluation is made, and noted once.
      const restarted = await openBinary(2);
      for (const { trainer } of restarted) await trainer.restoreState(await ranks[0]!.trainer.encodeState());
      await runAll(restarted);
      expect(evaluationsOf(restarted[0]!)[0]).toMatchObject({ step: 8 });
      const undisturbed = await openBinary(2);
      await runAll(undisturbed);
      expect(restarted[0]!.trainer.point()).toEqual(undisturbed[0]!.trainer.point());
      expect(restarted[0]!.trainer.state.scalars).toEqual(undisturbed[0]!.trainer.state.scalars);
    }
  });

  test.each(["auc", "perplexity", "rmse"] as const)("%s of classes is refused by name", async (metric) => {
    await expect(openWorld(1, { evaluation: every({ metric }) })).rejects.toMatchObject({
      code: "JOB_INVALID",
      message: expect.stringContaining(`evaluation.metric: ${metric} is of targets of the kind`),
    });
  });
});

/** By ranks of a new ring. */
async function evaluated(ranks: readonly Rank[]): Promise<Evaluation> {
  const rings = memoryRings(ranks.length);
  const all = await Promise.all(ranks.map(({ trainer }, i) => trainer.evaluate(rings[i]!, never)));
  return all[0]!;
}

describe("early stopping", () => {
  test.each([1, 3])("ends a world of %i at the same step on every rank", async (worldSize) => {
    const ranks = await openWorld(worldSize, { evaluation: hopeless });
    expect(await runAll(ranks)).toEqual(Array(worldSize).fill("done"));
    // The best at 4, no better ones at 8 and 12; that is known with step 13.
    for (const { trainer } of ranks) expect(trainer.point()).toEqual(ranks[0]!.trainer.point());
    expect(ranks[0]!.trainer.point().step).toBe(13);
    expect(evaluationsOf(ranks[0]!).map(({ isBest }) => isBest)).toEqual([true, false, false]);
  });

  test("stays stopped in the next ring, also for a rank that was started from the state", async () => {
    const ranks = await openWorld(3, { evaluation: hopeless });
    await runAll(ranks.slice(0, 2));
    const stopped = trainingPoint(ranks[0]!.trainer.state);
    await ranks[2]!.trainer.restoreState(await ranks[0]!.trainer.encodeState());
    expect(await runAll(ranks)).toEqual(["done", "done", "done"]);
    for (const { trainer } of ranks) expect(trainer.point()).toEqual(stopped);
  });

  test("patience is counted on from a checkpoint to the same end, whatever broke the ring", async () => {
    const undisturbed = await openWorld(2, { evaluation: hopeless });
    await runAll(undisturbed);
    const ranks = await openWorld(2, { evaluation: hopeless });
    const rings = memoryRings(2);
    ranks[0]!.onStep = (step) => {
      if (step === 9) rings[0]!.destroy();
    };
    await settleAll(ranks, rings);
    const restarted = await openWorld(2, { evaluation: hopeless });
    for (const { trainer } of restarted) await trainer.restoreState(await ranks[0]!.trainer.encodeState());
    await runAll(restarted);
    expect(restarted[0]!.trainer.point()).toEqual(undisturbed[0]!.trainer.point());
  });
});

describe("what is better", () => {
  const note = (
    spec: Partial<EvaluationSpec>,
    values: readonly (number | undefined)[],
  ): [boolean[], boolean] => {
    const stopping = new EarlyStopping(every({ patience: 2, ...spec }), { stepsPerEpoch: 5, roundSteps: 1 });
    const state = initialState(1, { slots: [], scalars: stopping.scalars });
    const better = values.map((value, i) =>
      stopping.note(state, 4 * (i + 1), {
        ...{ examples: 1, loss: value ?? 0, accuracy: value ?? 0 },
        metrics: value === undefined ? {} : { auc: value, rmse: value, perplexity: value },
      }),
    );
    return [better, stopping.isStopped(state)];
  };

  test.each<[Partial<EvaluationSpec>, (number | undefined)[], boolean[], boolean]>([
    [{ metric: "auc" }, [0.5, 0.6, 0.6], [true, true, false], false],
    [{ metric: "auc" }, [undefined, 0.6, undefined], [false, true, false], false],
    [{ metric: "rmse", minDelta: 0.2 }, [3, 2.9, 2.9], [true, false, false], true],
    [{ metric: "perplexity" }, [30, 20, 10], [true, true, true], false],
    [{}, [3, 2, 1], [true, true, true], false],
    [{}, [1, 2, 1], [true, false, false], true],
    [{}, [1, 2, 0.5, 0.6], [true, false, true, false], false],
    [{ metric: "accuracy" }, [0.5, 0.6, 0.6], [true, true, false], false],
    [{ metric: "accuracy", minDelta: 0.2 }, [0.5, 0.6, 0.7], [true, false, false], true],
    [{}, [Number.NaN, 1, Number.NaN], [false, true, false], false],
    [{ patience: 1 }, [Number.NaN], [false], true],
  ])("%j: %j", (spec, values, better, isStopped) => {
    expect(note(spec, values)).toEqual([better, isStopped]);
  });

  test("a job without evaluation keeps nothing, and never stops", () => {
    const stopping = new EarlyStopping(undefined, { stepsPerEpoch: 5, roundSteps: 1 });
    expect(stopping.scalars).toEqual({});
    expect(stopping.isDue(5)).toBe(false);
    expect(stopping.isStopped(initialState(1, { slots: [], scalars: {} }))).toBe(false);
  });
});
