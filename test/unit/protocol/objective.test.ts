import { describe, expect, test } from "vitest";
import type { Target } from "../../../protocol/data-schema.ts";
import { jobSpecSchema } from "../../../protocol/job-spec.ts";
import { goalOf, metricSchema, perplexityMax, perplexityOf } from "../../../protocol/metric.ts";
import { checkObjective, lossSpecSchema, type Objective, objectiveOf } from "../../../protocol/objective.ts";

const kinds = {
  class: { kind: "class", classCount: 10 },
  tokens: { kind: "tokens", length: 4, classCount: 200 },
  binary: { kind: "binary" },
  number: { kind: "number" },
} as const satisfies Record<string, Target>;

describe("a loss", () => {
  test.each<[object, string]>([
    [{ kind: "cross-entropy", classWeights: [1, -1] }, "Too small"],
    [{ kind: "cross-entropy", classWeights: [1, Number.NaN] }, "expected number"],
    [{ kind: "cross-entropy", classWeights: [1, Number.POSITIVE_INFINITY] }, "expected number"],
    [{ kind: "cross-entropy", classWeights: [0, 0] }, "one weight at least is more than 0"],
    [{ kind: "cross-entropy", classWeights: [1] }, "Too small"],
    [{ kind: "cross-entropy", classWeights: "even" }, "balanced"],
    [{ kind: "cross-entropy", labelSmoothing: 1 }, "Too big"],
    [{ kind: "cross-entropy", labelSmoothing: -0.1 }, "Too small"],
    [{ kind: "binary-cross-entropy", positiveWeight: 0 }, "Too small"],
    [{ kind: "huber", delta: 0 }, "Too small"],
    [{ kind: "huber", delta: -1 }, "Too small"],
    [{ kind: "mse", delta: 1 }, "delta"],
    [{ kind: "hinge" }, "Invalid"],
  ])("%j is refused", (loss, why) => {
    const { error } = lossSpecSchema.safeParse(loss);
    expect(JSON.stringify(error?.issues)).toContain(why);
  });

  test.each<[object, keyof typeof kinds, RegExp, string]>([
    [
      { kind: "mse" },
      "class",
      /^loss\.kind: mse is no loss of targets of the kind class/,
      "Take cross-entropy",
    ],
    [{ kind: "cross-entropy" }, "binary", /no loss of targets of the kind binary/, "binary-cross-entropy"],
    [
      { kind: "binary-cross-entropy" },
      "number",
      /no loss of targets of the kind number/,
      "mse, mae or huber",
    ],
    [
      { kind: "cross-entropy", classWeights: [1, 2, 3] },
      "class",
      /3 weights, and the data has 10 classes/,
      "Give 10 weights",
    ],
    [
      { kind: "cross-entropy", classWeights: "balanced" },
      "tokens",
      /balanced is for one class an example/,
      "list",
    ],
  ])("%j of %s is refused, with what to write instead", (loss, kind, message, remedy) => {
    const check = () => checkObjective({ loss: lossSpecSchema.parse(loss) }, kinds[kind]);
    expect(check).toThrow(message);
    expect(check).toThrow(
      expect.objectContaining({ code: "JOB_INVALID", remedy: expect.stringContaining(remedy) }),
    );
  });

  test("of data that only agents can read, what is known of it is checked", () => {
    const check = (loss: object) => () =>
      checkObjective({ loss: lossSpecSchema.parse(loss) }, { kind: "class" });
    expect(check({ kind: "cross-entropy", classWeights: [1, 2, 3] })).not.toThrow();
    expect(check({ kind: "mae" })).toThrow("no loss of targets of the kind class");
  });

  test("balanced weights give every class the same say, and one without examples weighs 1", () => {
    const loss = lossSpecSchema.parse({ kind: "cross-entropy", classWeights: "balanced" });
    const counts = [30, 10, 0, 20];
    const objective = objectiveOf(loss, { kind: "class", classCount: 4 }, counts);
    expect(objective).toMatchObject({ classWeights: [60 / 90, 2, 1, 1] });
    const { classWeights } = objective as Extract<Objective, { kind: "cross-entropy" }>;
    expect(counts.reduce((sum, count, c) => sum + count * classWeights![c]!, 0)).toBeCloseTo(60);
    expect(() => objectiveOf(loss, { kind: "class", classCount: 4 }, undefined)).toThrow("does not tell");
    const binary = lossSpecSchema.parse({ kind: "binary-cross-entropy", positiveWeight: "balanced" });
    expect(objectiveOf(binary, kinds.binary, [90, 30])).toEqual({
      kind: "binary-cross-entropy",
      positiveWeight: 3,
    });
    expect(objectiveOf(binary, kinds.binary, [90, 0])).toMatchObject({ positiveWeight: 1 });
  });

  test("with a script it is the script's", () => {
    const script = { name: "train.py", digest: "a".repeat(64), source: "" };
    const { error } = jobSpecSchema.safeParse({
      ...{
        name: "a",
        engine: "torch",
        script,
        model: { architecture: "script" },
        data: { source: "script" },
      },
      ...{ loss: { kind: "mse" }, metrics: ["mae"] },
    });
    expect(error?.issues.map(({ path }) => path.join("."))).toEqual(["loss", "metrics"]);
  });
});

describe("a metric", () => {
  test.each<[string, keyof typeof kinds, string]>([
    ["auc", "class", "macro-f1"],
    ["f1", "class", "macro-f1"],
    ["macro-f1", "binary", "f1"],
    ["perplexity", "class", "accuracy"],
    ["mae", "binary", "auc"],
    ["accuracy", "number", "rmse"],
    ["top-5-accuracy", "number", "r2"],
    ["top-10-accuracy", "class", "below 10"],
    ["confusion-matrix", "tokens", "macro"],
    ["per-class", "tokens", "macro"],
  ])("%s of %s is refused, with what fits", (metric, kind, remedy) => {
    const job = {
      ...{ name: "a", model: { architecture: "mlp" }, data: { source: "mnist" } },
      metrics: [metric],
    };
    const check = () => checkObjective(jobSpecSchema.parse(job), kinds[kind]);
    expect(check).toThrow(`metrics: ${metric}`);
    expect(check).toThrow(
      expect.objectContaining({ code: "JOB_INVALID", remedy: expect.stringContaining(remedy) }),
    );
  });

  test("top-k is of 2 to 100, and more of it is better", () => {
    expect(["top-2-accuracy", "top-100-accuracy"].every((name) => metricSchema.safeParse(name).success)).toBe(
      true,
    );
    for (const name of ["top-1-accuracy", "top-101-accuracy", "top-5.5-accuracy", "top--5-accuracy", "top-5"])
      expect(metricSchema.safeParse(name).success, name).toBe(false);
    expect(["loss", "perplexity", "mae", "rmse"].map((name) => goalOf(metricSchema.parse(name)))).toEqual(
      Array(4).fill("minimize"),
    );
    expect(["r2", "f1", "top-5-accuracy"].map((name) => goalOf(metricSchema.parse(name)))).toEqual(
      Array(3).fill("maximize"),
    );
  });

  test("a perplexity is a number that JSON can hold, and larger losses have no smaller one", () => {
    expect(perplexityOf(1)).toBe(Math.E);
    expect(perplexityOf(690)).toBeLessThan(perplexityMax);
    for (const loss of [691, 709, 710, 1e30, Number.POSITIVE_INFINITY]) {
      expect(perplexityOf(loss)).toBe(perplexityMax);
      expect(JSON.parse(JSON.stringify(perplexityOf(loss)))).toBe(1e300);
    }
    expect(perplexityOf(Number.NaN)).toBeNaN();
  });
});
