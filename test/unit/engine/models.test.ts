import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import * as tf from "@tensorflow/tfjs";
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { openEngine } from "../../../agent/engine/engine.ts";
import { writeInitialParameters } from "../../../agent/models/initial-parameters.ts";
import { layerKinds } from "../../../agent/models/layers/kinds.ts";
import { modelOf } from "../../../agent/models/library.ts";
import { readTopology } from "../../../agent/models/topology.ts";
import { type ModelSpec, modelSpecSchema } from "../../../protocol/job-spec.ts";
import { modelDescriptionSchema } from "../../../protocol/messages/model.ts";
import { batchFor, modelCases, relativeError } from "../../contract/engines.ts";

const classes = (inputShape: readonly number[], classCount = 10) => ({
  inputShape,
  target: { kind: "class" as const, classCount },
});
const data = classes([28, 28, 1]);
const sequential = (...layers: object[]): ModelSpec => ({
  architecture: "layers",
  topology: { class_name: "Sequential", config: { name: "m", layers } },
});
const dense = (config: object = {}) => ({
  class_name: "Dense",
  config: { name: "out", units: 10, activation: "softmax", ...config },
});
const flatten = { class_name: "Flatten", config: { name: "flatten" } };
const refusal = (spec: ModelSpec, shape = data) => {
  try {
    modelOf(spec, shape);
  } catch (error) {
    return error as { code: string; message: string };
  }
  return undefined;
};

describe("model library", () => {
  it("builds the default cnn for MNIST with 54,410 parameters", () => {
    const { description } = modelOf(modelSpecSchema.parse({ architecture: "cnn" }), data);
    expect(description.parameterCount).toBe(54_410);
    expect(description.layers.map(({ kind, outputShape }) => `${kind} ${outputShape.join("x")}`)).toEqual([
      "Conv2D 26x26x32",
      "MaxPooling2D 13x13x32",
      "Flatten 5408",
      "Dense 10",
    ]);
    expect(description.layers.map(({ multiplyAdds }) => multiplyAdds)).toEqual([194_688, 21_632, 0, 54_080]);
    expect(modelDescriptionSchema.parse(description)).toEqual(description);
  });

  it("builds the default mlp for MNIST with 101,770 parameters", () => {
    const { description } = modelOf(modelSpecSchema.parse({ architecture: "mlp" }), data);
    expect(description.parameterCount).toBe(101_770);
  });

  it("says what does not fit: input, output, window, ending", () => {
    const declared = dense({ batch_input_shape: [null, 32, 32, 1] });
    expect(refusal(sequential(declared))?.message).toBe(
      "layer out takes inputs of shape [32, 32, 1], but [28, 28, 1] comes in",
    );
    expect(refusal(sequential(flatten, dense({ units: 5 })))?.message).toBe(
      "the model puts out shape [5], but the data has 10 classes",
    );
    expect(refusal(sequential(flatten, dense({ activation: "relu" })))?.message).toContain("is no softmax");
    const cnn: ModelSpec = { architecture: "cnn", filters: [4, 4], kernelSize: 11, hidden: [] };
    expect(refusal(cnn)?.message).toBe("layer conv2d_2 a window of 11 does not fit a side of 9");
    expect(refusal({ ...cnn, filters: [4] }, classes([30]))?.message).toContain("needs images");
  });

  it.each([
    [
      "Lambda",
      { class_name: "Lambda", config: { name: "x", function: "() => process.exit()" } },
      "evaluates code",
    ],
    ["a class of its own", { class_name: "__proto__", config: { name: "x" } }, "is not supported"],
    [
      "a regularizer",
      dense({ kernel_regularizer: { class_name: "L1L2", config: {} } }),
      "kernel_regularizer",
    ],
    ["a frozen layer", dense({ trainable: false }), "trainable"],
    ["an unknown setting", dense({ lora_rank: 4 }), "lora_rank"],
    ["too many parameters", dense({ units: 1_000_000 }), "more than 134217728 parameters"],
  ])("refuses %s", (_what, layer, why) => {
    const error = refusal(sequential(flatten, layer, dense({ name: "end" })));
    expect(error).toMatchObject({ code: "JOB_INVALID" });
    expect(error?.message).toContain(why);
  });

  it("docs/job-file.md names every layer", () => {
    const text = readFileSync(new URL("../../../docs/job-file.md", import.meta.url), "utf8");
    for (const kind of Object.keys(layerKinds)) expect(text).toContain(`\`${kind}\``);
  });

  it("refuses a convolution that strides and dilates at once, as Keras does", () => {
    const config = { name: "x", filters: 2, kernel_size: 3 };
    const both = { class_name: "Conv2D", config: { ...config, strides: [1, 2], dilation_rate: [2, 1] } };
    expect(refusal(sequential(both, flatten, dense({ name: "end" })))?.message).toMatch(/layer x .*dilation/);
    const line = { class_name: "Reshape", config: { name: "line", target_shape: [28, 28] } };
    const along = { class_name: "Conv1D", config: { ...config, strides: 2, dilation_rate: 2 } };
    expect(refusal(sequential(line, along, flatten, dense({ name: "end" })))?.message).toMatch(
      /layer x .*dilation/,
    );
  });

  it("refuses two layers of one name, and models that are no chain", () => {
    expect(refusal(sequential(dense(), dense()))?.message).toBe("two layers are called out");
    const subclass = { class_name: "MyModel", config: { layers: [] } };
    expect(refusal({ architecture: "layers", topology: subclass })?.message).toContain(
      "sequential and functional models",
    );
  });

  it("answers any topology with layers or JOB_INVALID, and nothing else", () => {
    const kinds = fc.constantFrom(
      "Dense",
      "Conv2D",
      "MaxPooling2D",
      "Reshape",
      "InputLayer",
      "Activation",
      "constructor",
    );
    const settings = fc.dictionary(
      fc.constantFrom(
        "name",
        "units",
        "filters",
        "kernel_size",
        "strides",
        "target_shape",
        "activation",
        "padding",
      ),
      fc.oneof(
        fc.integer(),
        fc.string(),
        fc.array(fc.integer(), { maxLength: 3 }),
        fc.constant(null),
        fc.double(),
      ),
    );
    const layers = fc.array(fc.record({ class_name: kinds, config: settings }), { maxLength: 4 });
    const topology = fc.oneof(
      fc.anything(),
      layers.map((each) => ({ class_name: "Sequential", config: { layers: each } })),
    );
    fc.assert(
      fc.property(topology, (each) => {
        try {
          for (const { outputShape } of readTopology(each, { inputShape: [6, 6, 2] }).layers) {
            expect(outputShape.every((length) => Number.isInteger(length) && length > 0)).toBe(true);
          }
        } catch (error) {
          expect(error).toMatchObject({ name: "RingfoldError", code: "JOB_INVALID" });
        }
      }),
      { numRuns: 500 },
    );
  });
});

describe("initial parameters", () => {
  const { graph, description } = modelOf(modelSpecSchema.parse({ architecture: "cnn" }), data);
  const initial = (seed: number) => {
    const into = new Float32Array(description.parameterCount);
    writeInitialParameters(graph.layers, seed, into);
    return into;
  };

  it("are the same bits for ever", () => {
    const digest = createHash("sha256").update(initial(1)).digest("hex");
    expect(digest).toMatchInlineSnapshot(
      `"e811783087dc533159cd34fbf6c4db2de032007434817ffe3f62d6661ed12dea"`,
    );
  });

  it("differ by seed and by layer, spread as Glorot says, biases zero", () => {
    const [one, two] = [initial(1), initial(2)];
    expect(one).not.toEqual(two);
    const kernel = one.subarray(0, 288);
    const limit = Math.sqrt(6 / (9 + 288));
    expect(kernel.every((value) => Math.abs(value) <= limit)).toBe(true);
    const last = one.subarray(320, 320 + 54_080);
    const variance = last.reduce((sum, value) => sum + value * value, 0) / last.length;
    expect(variance / (2 / (5_408 + 10))).toBeCloseTo(1, 1);
    expect(one.subarray(288, 320).every((value) => value === 0)).toBe(true);
  });

  it("honours the initializer that a topology names", () => {
    const config = {
      kernel_initializer: { class_name: "TruncatedNormal", config: { mean: 1, stddev: 0.1 } },
    };
    const model = modelOf(sequential(flatten, dense(config)), data);
    const into = new Float32Array(model.description.parameterCount);
    writeInitialParameters(model.graph.layers, 5, into);
    const kernel = into.subarray(0, 7_840);
    expect(kernel.every((value) => value >= 0.8 && value <= 1.2)).toBe(true);
    expect(kernel.reduce((sum, value) => sum + value, 0) / kernel.length).toBeCloseTo(1, 2);
  });
});

describe("topologies are TF.js topologies", () => {
  beforeAll(async () => {
    await openEngine({ prefer: "cpu" });
  });

  /**
   * TF.js has no layers for positions, its attention takes its inputs in another way, causal convolutions are not written
   * yet, depthwise ones read over their dilation, and Subtract is a layer of Keras alone.
   */
  const known = modelCases.filter(
    ({ spec, name }) => !/transformer|encoder/.test(spec.architecture) && !/causal|other sizes/.test(name),
  );
  it.each(known.map((each) => [each.name, each] as const))(
    "TF.js reads %s and computes the same",
    async (_name, { spec, shape }) => {
      const engine = await openEngine({ prefer: "cpu" });
      const { description, graph } = modelOf(spec, shape);
      const theirs = await tf.models.modelFromJSON({ modelTopology: description.topology as never });
      const ours = engine.openModel(spec, { ...shape, seed: 8 });
      const parameters = new Float32Array(description.parameterCount);
      await ours.readParameters(parameters);
      const slices = ours.layout.map(({ name, shape, offset, elementCount }) => ({
        name,
        shape,
        data: parameters.slice(offset, offset + elementCount),
      }));
      const layers = theirs.layers.filter((layer) => layer.getClassName() !== "InputLayer");
      for (const layer of layers) {
        const own = slices.filter(({ name }) => name.startsWith(`${layer.name}/`));
        expect(layer.getWeights().map((weight) => weight.shape)).toEqual(own.map((weight) => weight.shape));
        layer.setWeights(own.map((weight) => tf.tensor(weight.data, [...weight.shape])));
      }
      const input = { shape: [2, ...shape.inputShape], data: batchFor(shape, 2, 4).inputs };
      const range = { fromLayer: 0, toLayer: description.layers.length };
      const shard = engine.openShard(description, range, slices);
      const rows = tf.tensor(input.data, input.shape);
      const parts = graph.inputs.map(({ shape: each, offset, elementCount }) =>
        graph.inputs.length === 1
          ? tf.reshape(rows, [2, ...each])
          : tf.reshape(tf.slice(rows, [0, offset], [2, elementCount]), [2, ...each]),
      );
      const expected = theirs.predict(parts) as tf.Tensor;
      expect(relativeError((await shard.infer(input)).data, await expected.data())).toBeLessThan(1e-5);
      const shapes = layers.map(({ name, outputShape }) => [name, (outputShape as number[]).slice(1)]);
      expect(Object.fromEntries(shapes)).toEqual(
        Object.fromEntries(description.layers.map(({ name, outputShape }) => [name, outputShape])),
      );
      engine.close();
    },
  );
});
