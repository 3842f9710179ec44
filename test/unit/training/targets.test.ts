import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { Dataset } from "../../../agent/data/dataset.ts";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { Engine } from "../../../agent/engine/port.ts";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import { computedData } from "../../fixtures/tables.ts";
import { memoryRings, openRank, trainTwoRanks } from "../../fixtures/trainers.ts";
import { Randomness } from "../../simulation/world/randomness.ts";

const never = new AbortController().signal;
const adam = (learningRate: number): JobSpec["optimizer"] => ({
  ...{ kind: "adam", learningRate, beta1: 0.9, beta2: 0.999, epsilon: 1e-7 },
});
const category = (name: string, cardinality: number) => ({
  ...{ name, shape: [], kind: "category" as const, cardinality },
});

/** Ratings that follow from two hidden numbers and a bias a user and an item. */
function ratings(): Dataset {
  const random = new Randomness(5);
  const draw = (count: number) => Array.from({ length: count }, () => random.real(-1, 1));
  const [users, items, userBias, itemBias] = [draw(40), draw(30), draw(40), draw(30)];
  const shape = {
    inputShape: [2],
    features: [category("user", 40), category("item", 30)],
    target: { kind: "number" as const },
  };
  const exampleOf = (index: number) => {
    const [user, item] = [(index * 7) % 40, (index * 11 + Math.floor(index / 40)) % 30];
    const rating = 3 + userBias[user]! + itemBias[item]! + users[user]! * items[item]!;
    return { row: [user, item], targets: [rating] };
  };
  return computedData(shape, exampleOf, { train: 900, test: 200 });
}

/** Whether a loan is paid back, which a job and a sum decide; every ninth answer is unknown. */
function loans(): Dataset {
  const random = new Randomness(6);
  const examples = Array.from({ length: 800 }, (_, i) => {
    const [job, sum] = [random.integer(0, 4), random.real(-1, 1)];
    const paid = sum + [0.9, -0.9, 0.5, -0.5, 0][job]! + random.real(-0.2, 0.2) > 0 ? 1 : 0;
    return { row: [sum, job], targets: [i % 9 === 0 ? -1 : paid] };
  });
  const shape = {
    inputShape: [2],
    features: [{ name: "sum", shape: [], kind: "number" as const }, category("job", 5)],
    target: { kind: "binary" as const },
  };
  return computedData(shape, (index) => examples[index]!, { train: 600, test: 200 });
}

describe("two ranks train and evaluate", () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await openEngine({ prefer: "wasm" });
  });
  afterAll(() => engine.close());

  const trainPair = (data: Dataset, spec: Partial<JobSpec>) => trainTwoRanks({ engine, data, spec });

  test("a recommender, to a root mean square error", async () => {
    const { evaluation, reports } = await trainPair(ratings(), {
      ...{ model: { architecture: "two-tower", width: 4, hidden: [] }, optimizer: adam(0.02) },
      ...{ batchSize: 50, epochs: 30 },
    });
    expect(evaluation.accuracy).toBeNull();
    expect(reports.at(-1)!.accuracy).toBeNull();
    expect(evaluation.metrics.rmse).toBeCloseTo(Math.sqrt(evaluation.loss), 6);
    expect(evaluation.metrics.rmse).toBeLessThan(0.35); // without what items and users have in common: 0.5
  });

  test("a table with categories, to an area; unknown answers count nowhere", async () => {
    const { evaluation } = await trainPair(loans(), {
      ...{ model: { architecture: "tabular", hidden: [16], embeddingWidth: 3 }, optimizer: adam(0.02) },
      ...{ batchSize: 50, epochs: 8 },
    });
    expect(evaluation.metrics.auc).toBeGreaterThan(0.97);
    expect(evaluation.accuracy).toBeGreaterThan(0.9);
  });

  test("a category out of range is named before it reaches a kernel", async () => {
    const data = ratings();
    const broken = computedData(data.shape, () => ({ row: [3, 30], targets: [1] }), { train: 4, test: 4 });
    const spec = { model: { architecture: "two-tower" as const, width: 4, hidden: [] } };
    const rank = await openRank({ engine, data: broken, spec });
    await expect(rank.trainer.run(memoryRings(1)[0]!, never)).rejects.toMatchObject({
      code: "DATA_INVALID",
      message: "item of example 0 is 30, and must be a whole number from 0 to 29",
    });
    rank.model.close();
  });
});
