import { describe, expect, test } from "vitest";
import { predictionText, readPredictions } from "../../../scripts/commands/inference/predictions.ts";
import { type TargetFacts, targetFacts } from "../../../scripts/commands/inference/served-version.ts";
import { manifestOf } from "../../fixtures/serving.ts";

/** Two examples, answered by a model with so many outputs. */
function ask(scores: readonly number[], target?: TargetFacts) {
  const batch = { shape: [2, 3], data: new Float32Array(6) };
  const output = { name: "output", shape: [2, scores.length / 2], datatype: "FP32", data: [...scores] };
  const answer = { model_name: "loans", outputs: [output] };
  return readPredictions(answer, { batch, firstIndex: 4, ...(target ? { target } : {}) });
}
const textOf = (scores: readonly number[], target?: TargetFacts) =>
  predictionText(ask(scores, target), { target, correct: undefined });

test("of a binary target the chance of the positive class, and the class that it makes", async () => {
  const target = { kind: "binary", name: "repaid", classes: ["no", "yes"] } as const;
  expect(ask([0.2, 0.75], target)).toEqual([
    { index: 4, class: 0, className: "no", probability: 0.2 },
    { index: 5, class: 1, className: "yes", probability: 0.75 },
  ]);
  expect(await textOf([0.2, 0.75], target)).toMatch(
    /^INDEX +REPAID +CHANCE OF YES\n4 +no +0\.2000\n5 +yes +0\.7500$/,
  );
  expect(await textOf([0.2, 0.75], { kind: "binary" })).toMatch(/^INDEX +CLASS +CHANCE OF 1\n4 +0 +0\.2000/);
});

test("of a number the number, by the name of its column", async () => {
  const target = { kind: "number", name: "price" } as const;
  expect(ask([1_234.5678, -2], target)).toEqual([
    { index: 4, value: 1_234.5678 },
    { index: 5, value: -2 },
  ]);
  expect(await textOf([1_234.5678, -2], target)).toMatch(/^INDEX +PRICE\n4 +1234\.57\n5 +-2$/);
  expect(await textOf([0.5, 1])).toMatch(/^INDEX +VALUE\n/);
});

test("of classes the likeliest, by its label where there are labels", async () => {
  const scores = [0.1, 0.7, 0.2, 0.6, 0.3, 0.1];
  expect(ask(scores)[0]).toEqual({ index: 4, class: 1, scores: [0.1, 0.7, 0.2] });
  const target = { kind: "class", name: "species", classes: ["cat", "dog", "hen"] } as const;
  expect(await textOf(scores, target)).toMatch(/^INDEX +SPECIES +SCORE\n4 +dog +0\.7000\n5 +cat +0\.6000$/);
});

describe("a version whose data set is not known", () => {
  test.each([
    [[4, 1], 0.9, "binary"],
    [[4, 1], null, "number"],
    [[4, 3], 0.9, "class"],
  ] as const)("with layers %j and accuracy %s predicts a %s", (widths, accuracy, kind) => {
    const manifest = manifestOf(widths);
    const metrics = { ...manifest.metrics, accuracy };
    expect(targetFacts({ manifest: { ...manifest, metrics }, data: undefined })).toEqual({ kind });
  });
});
