import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { Engine, TrainableModel } from "../../../agent/engine/port.ts";
import { batchFor, modelCases, relativeError } from "../../contract/engines.ts";

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ prefer: "wasm" });
});
afterAll(() => engine.close());

const caseOf = (name: string) => modelCases.find((each) => each.name === name)!;
const open = (name: string): TrainableModel => {
  const { spec, shape } = caseOf(name);
  return engine.openModel(spec, { ...shape, seed: 3 });
};

describe("dropout", () => {
  async function gradientOf(model: TrainableModel, name: string, step: number, examples: readonly number[]) {
    const gradient = new Float32Array(model.description.parameterCount);
    await model.gradient({ ...batchFor(caseOf(name).shape, 3, 5), step, examples }, gradient);
    return gradient;
  }

  test("follows from step and example alone: a resumed step drops the same", async () => {
    const [model, resumed] = [open("transformer-lm"), open("transformer-lm")];
    const first = await gradientOf(model, "transformer-lm", 7, [4, 9, 2]);
    await gradientOf(resumed, "transformer-lm", 6, [1, 2, 3]);
    expect(await gradientOf(resumed, "transformer-lm", 7, [4, 9, 2])).toEqual(first);
    expect(await gradientOf(model, "transformer-lm", 8, [4, 9, 2])).not.toEqual(first);
    expect(await gradientOf(model, "transformer-lm", 7, [4, 9, 3])).not.toEqual(first);
    for (const each of [model, resumed]) each.close();
  });
});

describe("batch normalisation", () => {
  test("tells how far the averages move: towards the batch, weighed by its targets", async () => {
    const model = open("residual-cnn");
    const batch = batchFor(caseOf("residual-cnn").shape, 4, 5);
    const gradient = new Float32Array(model.description.parameterCount);
    const parameters = new Float32Array(gradient.length);
    await model.readParameters(parameters);
    for (let step = 0; step < 200; step++) {
      await model.gradient(batch, gradient);
      for (const { isAverage, offset, elementCount } of model.layout) {
        if (!isAverage) continue;
        for (let i = offset; i < offset + elementCount; i++) parameters[i]! -= gradient[i]! / 4;
      }
      model.writeParameters(parameters);
    }
    // The averages have come to those of this batch, so the model does the same with and without them.
    const trained = await model.gradient(batch, gradient);
    const evaluated = await model.evaluate(batch);
    expect(relativeError([evaluated.lossSum], [trained.lossSum])).toBeLessThan(1e-4);
    model.close();
  });
});

describe("layers that TF.js does otherwise", () => {
  /** A model of one layer whose weights are one after the other, and what it makes of an input. */
  async function infer(layer: { class_name: string; config: object }, inputShape: number[], data: number[]) {
    const spec = {
      architecture: "layers" as const,
      topology: {
        class_name: "Sequential",
        config: {
          name: "one",
          layers: [
            layer,
            { class_name: "Flatten", config: { name: "flat" } },
            { class_name: "Dense", config: { name: "end", units: 1 } },
          ],
        },
      },
    };
    const model = engine.openModel(spec, { inputShape, target: { kind: "number" }, seed: 1 });
    const tensors = model.layout.map(({ name, shape, elementCount }) => ({
      ...{ name, shape, data: Float32Array.from({ length: elementCount }, (_, i) => i + 1) },
    }));
    const shard = engine.openShard(model.description, { fromLayer: 0, toLayer: 1 }, tensors);
    const result = await shard.infer({ shape: [1, ...inputShape], data: Float32Array.from(data) });
    for (const each of [model, shard]) each.close();
    return [...result.data];
  }

  test("a causal convolution sees a place and what comes before it, as far apart as the dilation says", async () => {
    const config = {
      name: "c",
      filters: 1,
      kernel_size: 2,
      padding: "causal",
      dilation_rate: 2,
      use_bias: false,
    };
    // y[t] = 1 x[t - 2] + 2 x[t]
    const y = await infer({ class_name: "Conv1D", config }, [5, 1], [1, 10, 100, 1_000, 10_000]);
    expect(y).toEqual([2, 20, 201, 2_010, 20_100]);
  });

  test("a dilated depthwise convolution", async () => {
    const config = { name: "d", kernel_size: [1, 2], dilation_rate: [1, 2], use_bias: false };
    // Of each channel its own filter: 1 and 3 of the first, 2 and 4 of the second.
    const y = await infer(
      { class_name: "DepthwiseConv2D", config },
      [1, 4, 2],
      [1, 5, 10, 50, 100, 500, 1_000, 5_000],
    );
    expect(y).toEqual([1 + 300, 2 * 5 + 4 * 500, 10 + 3_000, 2 * 50 + 4 * 5_000]);
  });
});

describe("causal attention", () => {
  test("gives no place anything of what comes later", async () => {
    const { shape } = caseOf("transformer-lm");
    const model = open("transformer-lm");
    const parameters = new Float32Array(model.description.parameterCount);
    await model.readParameters(parameters);
    const tensors = model.layout.map(({ name, shape: each, offset, elementCount }) => ({
      ...{ name, shape: each, data: parameters.slice(offset, offset + elementCount) },
    }));
    const range = { fromLayer: 0, toLayer: model.description.layers.length };
    const shard = engine.openShard(model.description, range, tensors);
    const outputOf = async (tokens: readonly number[]) =>
      (await shard.infer({ shape: [1, ...shape.inputShape], data: Float32Array.from(tokens) })).data;
    const [one, other] = [await outputOf([1, 2, 3, 4, 5, 6]), await outputOf([1, 2, 3, 9, 8, 7])];
    expect(one.subarray(0, 3 * 11)).toEqual(other.subarray(0, 3 * 11));
    expect(one.subarray(3 * 11)).not.toEqual(other.subarray(3 * 11));
    for (const each of [model, shard]) each.close();
  });
});
