import type { Tensor } from "@tensorflow/tfjs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { openCpu } from "../../../agent/engine/cpu.ts";
import { countsOf } from "../../../agent/engine/judgement.ts";
import { type Aim, judge, lossOf } from "../../../agent/engine/loss.ts";
import type { Runtime } from "../../../agent/engine/runtime.ts";
import { openWasm } from "../../../agent/engine/wasm.ts";
import type { Target } from "../../../protocol/data-schema.ts";
import { type Objective, plainObjective } from "../../../protocol/objective.ts";
import { numbers, relativeError } from "../../contract/engines.ts";

const runtimes = [await openCpu(), await openWasm()].map((runtime) => [runtime.name, runtime] as const);

interface Case {
  readonly name: string;
  readonly aim: Aim;
  /** Of 5 or more targets. */
  readonly targets: readonly number[];
}
const classes: Target = { kind: "class", classCount: 4 };
const labels = [3, -1, 0, 0, 2, 1, 3];
const classWeights = [0.5, 2, 0, 3.25];
const signs = [1, 0, -1, 1, 0, 0, 1];
const values = [0.3, -2, 0.9, -0.1, 4, -0.35, 0.2];
const cases: readonly Case[] = [
  {
    name: "plain cross-entropy",
    targets: labels,
    aim: aimOf(classes, { kind: "cross-entropy", labelSmoothing: 0 }),
  },
  {
    name: "class weights",
    targets: labels,
    aim: aimOf(classes, { kind: "cross-entropy", labelSmoothing: 0, classWeights }),
  },
  {
    name: "label smoothing",
    targets: labels,
    aim: aimOf(classes, { kind: "cross-entropy", labelSmoothing: 0.15 }),
  },
  {
    name: "both",
    targets: labels,
    aim: aimOf(classes, { kind: "cross-entropy", labelSmoothing: 0.4, classWeights }),
  },
  {
    name: "both, of tokens",
    targets: labels,
    aim: aimOf(
      { kind: "tokens", length: 7, classCount: 4 },
      { kind: "cross-entropy", labelSmoothing: 0.4, classWeights },
    ),
  },
  {
    name: "binary",
    targets: signs,
    aim: aimOf({ kind: "binary" }, { kind: "binary-cross-entropy", positiveWeight: 1 }),
  },
  {
    name: "positive weight",
    targets: signs,
    aim: aimOf({ kind: "binary" }, { kind: "binary-cross-entropy", positiveWeight: 2.5 }),
  },
  { name: "mse", targets: values, aim: aimOf({ kind: "number" }, { kind: "mse" }) },
  { name: "mae", targets: values, aim: aimOf({ kind: "number" }, { kind: "mae" }) },
  { name: "huber", targets: values, aim: aimOf({ kind: "number" }, { kind: "huber", delta: 0.4 }) },
];
function aimOf(target: Target, objective: Objective): Aim {
  return { target, objective };
}

const widthOf = ({ target }: Aim): number => ("classCount" in target ? target.classCount : 1);

/** The formulas as they stand in books, in f64. @param bare of one target */
function lossOfOne(
  { objective }: Aim,
  bare: readonly number[],
  target: number,
): { readonly loss: number; readonly weight: number } {
  switch (objective.kind) {
    case "cross-entropy": {
      if (target < 0) return { loss: 0, weight: 0 };
      const total = bare.reduce((sum, z) => sum + Math.exp(z), 0);
      const chances = bare.map((z) => Math.exp(z) / total);
      const { labelSmoothing: e, classWeights: weights } = objective;
      const wanted = bare.map((_, c) => (c === target ? 1 - e : 0) + e / bare.length);
      const loss = -wanted.reduce((sum, share, c) => sum + share * Math.log(chances[c]!), 0);
      const weight = weights?.[target] ?? 1;
      return { loss: weight * loss, weight };
    }
    case "binary-cross-entropy": {
      if (target < 0) return { loss: 0, weight: 0 };
      const chance = 1 / (1 + Math.exp(-bare[0]!));
      const weight = target === 1 ? objective.positiveWeight : 1;
      return { loss: -weight * Math.log(target === 1 ? chance : 1 - chance), weight };
    }
    case "mse":
      return { loss: (bare[0]! - target) ** 2, weight: 1 };
    case "mae":
      return { loss: Math.abs(bare[0]! - target), weight: 1 };
    case "huber": {
      const size = Math.abs(bare[0]! - target);
      const { delta } = objective;
      return { loss: size <= delta ? size ** 2 / 2 : delta * (size - delta / 2), weight: 1 };
    }
  }
}

function sumOf(aim: Aim, bare: ArrayLike<number>, targets: readonly number[]) {
  const width = widthOf(aim);
  const rows = targets.map((target, i) =>
    lossOfOne(
      aim,
      Array.from({ length: width }, (_, c) => bare[i * width + c]!),
      target,
    ),
  );
  return {
    loss: rows.reduce((sum, { loss }) => sum + loss, 0),
    weight: rows.reduce((sum, { weight }) => sum + weight, 0),
  };
}

/** Scores of a model, some far from zero. */
const bareFor = (aim: Aim, count: number, seed = 5) =>
  numbers(count * widthOf(aim), seed).map((value) => 6 * value);

async function lossAndGradient(runtime: Runtime, aim: Aim, bare: Float32Array, targets: readonly number[]) {
  runtime.activate();
  const { tf } = runtime;
  const [loss, gradient] = tf.tidy(() => {
    const f = (x: Tensor) => lossOf(runtime, aim, x, Float32Array.from(targets)).loss.asScalar();
    const { value, grad } = tf.valueAndGrad(f)(tf.tensor(bare, [targets.length, widthOf(aim)]));
    return [value, grad] as Tensor[];
  }) as [Tensor, Tensor];
  const read = [loss, gradient].map((tensor) => ({ tensor, into: new Float32Array(tensor.size) }));
  await runtime.read(read);
  tf.dispose([loss, gradient]);
  return { loss: read[0]!.into[0]!, gradient: read[1]!.into };
}

describe.each(runtimes)("on %s", (_name, runtime) => {
  it.each(cases)(
    "$name: the loss and its weight are those of the formula, and the gradient its slope",
    async ({ aim, targets }) => {
      const bare = bareFor(aim, targets.length);
      const { loss, gradient } = await lossAndGradient(runtime, aim, bare, targets);
      const expected = sumOf(aim, bare, targets);
      expect(relativeError([loss], [expected.loss])).toBeLessThan(1e-5);
      expect(countsOf(aim, Float32Array.from(targets)).lossWeight).toBeCloseTo(expected.weight, 6);
      const h = 1e-5;
      const slopes = Array.from(bare, (_, i) => {
        const moved = (by: number) =>
          sumOf(aim, Float64Array.from(bare).with(i, bare[i]! + by), targets).loss;
        return (moved(h) - moved(-h)) / (2 * h);
      });
      expect(relativeError(gradient, slopes)).toBeLessThan(1e-5);
    },
  );

  it("weights are as if each example of a class were there so many times", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: -1, max: 3 }), { minLength: 1, maxLength: 9 }),
        fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 4, maxLength: 4 }),
        fc.constantFrom(0, 0.2),
        async (targets, weights, labelSmoothing) => {
          const weighted = aimOf(classes, { kind: "cross-entropy", labelSmoothing, classWeights: weights });
          const plain = aimOf(classes, { kind: "cross-entropy", labelSmoothing });
          const bare = bareFor(weighted, targets.length);
          const copies = targets.flatMap((target, i) =>
            Array.from({ length: target < 0 ? 1 : weights[target]! }, () => i),
          );
          if (copies.length === 0) return;
          const rows = Float32Array.from(copies.flatMap((i) => [...bare.subarray(4 * i, 4 * i + 4)]));
          const own = await lossAndGradient(runtime, weighted, bare, targets);
          const repeated = copies.map((i) => targets[i]!);
          const other = await lossAndGradient(runtime, plain, rows, repeated);
          const summed = new Float64Array(bare.length);
          copies.forEach((i, at) => {
            for (let c = 0; c < 4; c++) summed[4 * i + c]! += other.gradient[4 * at + c]!;
          });
          expect(Math.abs(own.loss - other.loss)).toBeLessThan(1e-4);
          expect(relativeError(own.gradient, summed)).toBeLessThan(1e-4);
          const countOf = (aim: Aim, all: readonly number[]) =>
            countsOf(aim, Float32Array.from(all)).lossWeight;
          expect(countOf(weighted, targets)).toBe(countOf(plain, repeated));
        },
      ),
      { numRuns: 30 },
    );
  });

  it.each(cases)(
    "$name: judged, the plain loss is told where it is another one",
    async ({ aim, targets }) => {
      runtime.activate();
      const { tf } = runtime;
      const bare = bareFor(aim, targets.length);
      const judged = tf.tidy(() => ({
        ...judge(
          runtime,
          aim,
          tf.tensor(bare, [targets.length, widthOf(aim)]),
          Float32Array.from(targets),
          true,
        ),
      })) as Readonly<Record<string, Tensor>>;
      const plain = await judged.plain?.data();
      tf.dispose(Object.values(judged));
      const expected = sumOf({ ...aim, objective: plainObjective(aim.target) }, bare, targets).loss;
      const isPlain = relativeError([sumOf(aim, bare, targets).loss], [expected]) < 1e-9;
      if (isPlain) expect(plain).toBeUndefined();
      else expect(relativeError(plain!, [expected])).toBeLessThan(1e-5);
    },
  );

  it("tells the likeliest class and how many are likelier than the label, the first of equals first", async () => {
    runtime.activate();
    const { tf } = runtime;
    const rows = [[1, 3, 2], [2, 2, 2], [2, 2, 2], [5, 1, 5], [5, 1, 5], [0, 1, 2], [Number.NaN, 1, 2]]; // biome-ignore format: a row each
    const targets = Float32Array.of(2, 0, 2, 2, 1, -1, 0);
    const aim = aimOf({ kind: "class", classCount: 3 }, { kind: "cross-entropy", labelSmoothing: 0 });
    const judged = tf.tidy(() => ({ ...judge(runtime, aim, tf.tensor2d(rows), targets, true) }));
    const { predicted, labelRanks } = judged;
    const [said, ranks] = [await predicted!.data(), await labelRanks!.data()];
    tf.dispose(Object.values(judged));
    expect([...said].slice(0, 6)).toEqual([1, 0, 0, 0, 0, 2]);
    expect([...ranks].slice(0, 5)).toEqual([1, 0, 2, 1, 2]);
    expect(ranks[6]).toBe(3);
  });
});
