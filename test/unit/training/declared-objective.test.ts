import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { Dataset } from "../../../agent/data/dataset.ts";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { Engine } from "../../../agent/engine/port.ts";
import { evaluationOf } from "../../../agent/training/evaluation.ts";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import { type Evaluation, evaluationSchema } from "../../../protocol/messages/job-report.ts";
import type { LossSpec } from "../../../protocol/objective.ts";
import { relativeError } from "../../contract/engines.ts";
import { exampleSpec } from "../../fixtures/messages.ts";
import { openStageRanks, runStages, settleStages } from "../../fixtures/stage-trainers.ts";
import { computedData } from "../../fixtures/tables.ts";
import { binaryData, memoryRings, openRank, type Rank, runAll, tinyData } from "../../fixtures/trainers.ts";

/** What a job file says with `loss` and `metrics`, as real trainers do it. */

const never = new AbortController().signal;
let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ prefer: "wasm" });
});
afterAll(() => engine.close());

/** Three classes, of which the last is rare. */
const unevenData: Dataset = computedData(
  { inputShape: [2], target: { kind: "class", classCount: 3 } },
  (index) => {
    const label = index % 12 === 11 ? 2 : index % 2;
    return { row: [Math.sin(7 * index) + label, Math.cos(5 * index) - label], targets: [label] };
  },
  { train: 48, test: 49 },
);
const counted = { ...unevenData, classCounts: [22, 22, 4] };
const numberData = computedData(
  { inputShape: [2], target: { kind: "number" } },
  (index) => {
    const row = [Math.sin(7 * index), Math.cos(11 * index)];
    return { row, targets: [2 * row[0]! - row[1]! + (index % 13 === 0 ? 9 : 0)] };
  },
  { train: 37, test: 23 },
);

async function openWorld(worldSize: number, data: Dataset, spec: Partial<JobSpec>): Promise<Rank[]> {
  const ranks: Rank[] = [];
  for (let rank = 0; rank < worldSize; rank++)
    ranks.push(await openRank({ engine, data, spec: { batchSize: 8, epochs: 4, ...spec } }));
  onTestFinished(() => {
    for (const { model } of ranks) model.close();
  });
  return ranks;
}

async function settled(ranks: readonly Rank[]): Promise<Evaluation[]> {
  const rings = memoryRings(ranks.length);
  const all = await Promise.all(ranks.map(({ trainer }, i) => trainer.settle(rings[i]!, never)));
  return all.map(({ evaluation }) => evaluation);
}
const evaluationsOf = ({ reports }: Rank) => reports.flatMap(({ evaluation }) => evaluation ?? []);

const jobs: Readonly<Record<string, { readonly data: Dataset; readonly spec: Partial<JobSpec> }>> = {
  "class weights and smoothing": {
    data: unevenData,
    spec: {
      loss: { kind: "cross-entropy", classWeights: [1, 0.5, 6], labelSmoothing: 0.1 },
      metrics: ["macro-f1", "macro-recall", "top-2-accuracy", "per-class", "confusion-matrix"],
    },
  },
  "balanced weights": {
    data: counted,
    spec: {
      loss: { kind: "cross-entropy", classWeights: "balanced", labelSmoothing: 0 },
      metrics: ["macro-f1"],
    },
  },
  "a positive weight": {
    data: binaryData(),
    spec: {
      loss: { kind: "binary-cross-entropy", positiveWeight: 3 },
      metrics: ["f1", "precision", "auc", "confusion-matrix"],
    },
  },
  "absolute errors": { data: numberData, spec: { loss: { kind: "mae" }, metrics: ["mae", "r2"] } },
  huber: { data: numberData, spec: { loss: { kind: "huber", delta: 0.5 }, metrics: ["mae", "r2"] } },
};

describe.each(Object.entries(jobs))("%s", (_name, { data, spec }) => {
  const evaluation = { everySteps: 5, metric: "loss", minDelta: 0 } as const;

  test("ranks with uneven shares come to what one process comes to", async () => {
    const [whole] = await openWorld(1, data, { ...spec, evaluation });
    await runAll([whole!]);
    const [expected] = await settled([whole!]);
    for (const worldSize of [2, 3]) {
      const ranks = await openWorld(worldSize, data, { ...spec, evaluation });
      await runAll(ranks);
      const all = await settled(ranks);
      for (const [i, rank] of ranks.entries()) {
        expect(all[i]).toEqual(all[0]);
        expect(evaluationsOf(rank)).toEqual(evaluationsOf(ranks[0]!));
      }
      const parameters = ({ trainer }: Rank) => trainer.state.parameters;
      expect(relativeError(parameters(ranks[0]!), parameters(whole!))).toBeLessThan(1e-4);
      expect(all[0]!.loss).toBeCloseTo(expected!.loss, 4);
      expect(all[0]!.confusion).toEqual(expected!.confusion);
      expect(Object.keys(all[0]!.metrics)).toEqual(Object.keys(expected!.metrics));
      for (const [name, value] of Object.entries(expected!.metrics))
        expect(all[0]!.metrics[name], name).toBeCloseTo(value, 3);
    }
  });

  test("two stages come to what one process comes to", async () => {
    const job = {
      ...exampleSpec({
        model: { architecture: "mlp", hidden: [5] },
        batchSize: 8,
        microBatchSize: 8,
        epochs: 2,
      }),
      ...spec,
      evaluation,
    };
    const whole = await openRank({ engine, data, spec: job });
    await runAll([whole]);
    const [expected] = await settled([whole]);
    const ranks = await openStageRanks(1, { engine, data, spec: { ...job, stages: 2 } });
    for (const outcome of await runStages(ranks))
      expect(outcome).toEqual({ status: "fulfilled", value: "done" });
    const told = await settleStages(ranks);
    for (const each of told) {
      expect(each.evaluation).toEqual(told[0]!.evaluation);
      expect(each.evaluation.confusion).toEqual(expected!.confusion);
      expect(each.evaluation.classes).toEqual(expected!.classes);
      expect(Object.keys(each.evaluation.metrics)).toEqual(Object.keys(expected!.metrics));
      expect(each.evaluation.loss).toBeCloseTo(expected!.loss, 5);
    }
    for (const { model } of [whole, ...ranks]) model.close();
  });

  test("tells tables at the end alone", async () => {
    const ranks = await openWorld(2, data, { ...spec, evaluation });
    await runAll(ranks);
    const onTheWay = evaluationsOf(ranks[0]!);
    expect(onTheWay.length).toBeGreaterThan(1);
    for (const each of onTheWay) expect([each.classes, each.confusion]).toEqual([undefined, undefined]);
    const asked = spec.metrics!.filter((name) => name !== "per-class" && name !== "confusion-matrix");
    for (const { metrics } of onTheWay) expect(Object.keys(metrics)).toEqual(expect.arrayContaining(asked));
    const [end] = await settled(ranks);
    expect(end!.confusion !== undefined).toBe(spec.metrics!.includes("confusion-matrix"));
    expect(end!.classes !== undefined).toBe(spec.metrics!.includes("per-class"));
  });
});

test("the loss of a step is the weighted mean, and its accuracy that of examples", async () => {
  const loss: LossSpec = { kind: "cross-entropy", classWeights: [0.01, 0.01, 0.01], labelSmoothing: 0 };
  // Adam would not notice another divisor.
  const optimizer = { kind: "sgd", learningRate: 0.3, momentum: 0.5 } as const;
  const [weighted] = await openWorld(1, unevenData, { loss, optimizer });
  const [plain] = await openWorld(1, unevenData, { optimizer });
  await Promise.all([runAll([weighted!]), runAll([plain!])]);
  // Equal weights are no weights, however small: the gradient is divided by their sum, not by a number of examples.
  expect(relativeError(weighted!.trainer.state.parameters, plain!.trainer.state.parameters)).toBeLessThan(
    1e-3,
  );
  weighted!.reports.forEach(({ loss: value, accuracy }, i) => {
    expect(value).toBeCloseTo(plain!.reports[i]!.loss, 3);
    expect(accuracy).toBe(plain!.reports[i]!.accuracy);
  });
});

test("weights of classes bring the rare one forward", async () => {
  const recallOf = async (spec: Partial<JobSpec>) => {
    const ranks = await openWorld(2, counted, { epochs: 30, metrics: ["per-class"], ...spec });
    await runAll(ranks);
    return (await settled(ranks))[0]!.classes![2]!.recall;
  };
  const loss = { kind: "cross-entropy", classWeights: "balanced", labelSmoothing: 0 } as const;
  expect(await recallOf({ loss })).toBeGreaterThan(await recallOf({}));
});

test("a job stops, and keeps its best state, by a metric that is gathered", async () => {
  const evaluation = { everySteps: 4, metric: "macro-f1", patience: 2, minDelta: 1e9 } as const;
  const stopping = await openWorld(2, unevenData, { evaluation });
  await runAll(stopping);
  expect(stopping.map(({ trainer }) => trainer.point().step)).toEqual([13, 13]);
  const checkpoint = { everySteps: 200, keepLast: 1, keepBest: true };
  // The learning rate grows until it wrecks the model.
  const wrecking = {
    optimizer: { kind: "sgd", learningRate: 200, momentum: 0 },
    schedule: { kind: "constant", warmupSteps: 30 },
    nonFinite: "skip",
  } as const;
  const ranks = await openWorld(2, unevenData, {
    ...{ checkpoint, ...wrecking, evaluation: { everySteps: 4, metric: "macro-f1", minDelta: 0 } },
  });
  await runAll(ranks);
  const [best, other] = await settled(ranks);
  expect(other).toEqual(best);
  const seen = evaluationsOf(ranks[0]!).map(({ metrics }) => metrics["macro-f1"]!);
  expect(best!.metrics["macro-f1"]).toBeGreaterThanOrEqual(Math.max(...seen));
});

test("what follows from another loss than the declared one is made of that one", async () => {
  const evaluationWith = async (data: Dataset, spec: Partial<JobSpec>) =>
    (await settled(await openWorld(2, data, spec)))[0]!;
  const [squared, absolute] = [
    await evaluationWith(numberData, {}),
    await evaluationWith(numberData, { loss: { kind: "mae" }, metrics: ["mae"] }),
  ];
  expect(squared.metrics.rmse).toBeCloseTo(Math.sqrt(squared.loss), 6);
  expect(absolute.metrics.rmse).toBeCloseTo(squared.metrics.rmse!, 5);
  expect(absolute.loss).toBeCloseTo(absolute.metrics.mae!, 5);
  expect(absolute.loss).not.toBeCloseTo(squared.loss, 2);

  const text = { name: "text", shape: [4], kind: "category" as const, cardinality: 5 };
  const tokens = computedData(
    { inputShape: [4], features: [text], target: { kind: "tokens", length: 4, classCount: 5 } },
    (index) => {
      const row = [0, 1, 2, 3].map((place) => (index * 3 + place * 2) % 5);
      return { row, targets: row.map((token) => (token * 2) % 5) };
    },
    { train: 8, test: 9 },
  );
  const model = { architecture: "transformer-lm", width: 8, heads: 2, layers: 1, dropout: 0 } as const;
  const plain = await evaluationWith(tokens, { model });
  const smooth = await evaluationWith(tokens, {
    model,
    loss: { kind: "cross-entropy", labelSmoothing: 0.5 },
  });
  expect(plain.metrics.perplexity).toBeCloseTo(Math.exp(plain.loss), 4);
  expect(smooth.metrics.perplexity).toBeCloseTo(plain.metrics.perplexity!, 4);
  expect(smooth.loss).not.toBeCloseTo(plain.loss, 4);
});

test("a perplexity beyond all bounds is stored and sent like any other", () => {
  const totals = Float32Array.of(9_000, 0, 10, 5, 10, 9_000);
  const evaluation = evaluationOf(totals, { kind: "tokens", length: 2, classCount: 3 });
  expect(evaluation).toMatchObject({ loss: 900, metrics: { perplexity: 1e300 } });
  expect(evaluationSchema.parse(JSON.parse(JSON.stringify(evaluation)))).toEqual(evaluation);
});

test("no held-out examples, or such as weigh nothing, are no division by zero", () => {
  const of = (...totals: number[]) =>
    evaluationOf(Float32Array.from(totals), { kind: "class", classCount: 3 });
  expect(of(0, 0, 0, 0, 0, 0)).toEqual({ examples: 0, loss: 0, accuracy: null, metrics: {} });
  expect(of(0, 3, 4, 4, 0, 8)).toEqual({ examples: 4, loss: 0, accuracy: 0.75, metrics: {} });
});

test("without loss and metrics an evaluation is what it was", async () => {
  const keys = async (data: Dataset) => {
    const ranks = await openWorld(1, data, {});
    await runAll(ranks);
    const [{ metrics, ...rest }] = (await settled(ranks)) as [Evaluation];
    return [Object.keys(rest), Object.keys(metrics)];
  };
  const common = ["examples", "loss", "accuracy"];
  expect(await keys(tinyData(20))).toEqual([common, []]);
  expect(await keys(binaryData())).toEqual([common, ["auc"]]);
  expect(await keys(numberData)).toEqual([common, ["rmse"]]);
});

test("a loss that the data cannot have is refused before the first step", async () => {
  await expect(openWorld(1, unevenData, { loss: { kind: "mse" } })).rejects.toMatchObject({
    code: "JOB_INVALID",
  });
  await expect(openWorld(1, unevenData, { metrics: ["auc"] })).rejects.toMatchObject({ code: "JOB_INVALID" });
  const loss = { kind: "cross-entropy", classWeights: "balanced", labelSmoothing: 0 } as const;
  await expect(openWorld(1, unevenData, { loss })).rejects.toThrow("does not tell");
});
