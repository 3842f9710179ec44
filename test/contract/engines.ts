import type { Tensor } from "@tensorflow/tfjs";
import { openCpu } from "../../agent/engine/cpu.ts";
import { openEngine } from "../../agent/engine/engine.ts";
import type { Engine } from "../../agent/engine/port.ts";
import type { Runtime } from "../../agent/engine/runtime.ts";
import { openTensorflow } from "../../agent/engine/tensorflow.ts";
import { openWasm } from "../../agent/engine/wasm.ts";
import { openWebgpu } from "../../agent/engine/webgpu.ts";
import { type ExampleShape, targetLength } from "../../protocol/data-schema.ts";
import type { ModelSpec } from "../../protocol/job-spec.ts";

/** Engines without which a run of the suite has failed, beside cpu and wasm, which come with the package. */
const required = new Set(["cpu", "wasm", ...(process.env.RINGFOLD_TEST_ENGINES ?? "").split(",")]);

/** Every engine that works on this machine, the reference first. Backends that are not installed are left out. */
export async function presentEngines(): Promise<Engine[]> {
  const engines: Engine[] = [];
  for (const prefer of ["cpu", "wasm", "tensorflow", "webgpu"] as const) {
    try {
      engines.push(await openEngine({ prefer }));
    } catch (cause) {
      if (required.has(prefer)) throw cause;
    }
  }
  return engines;
}

/** The backends behind the engines, for tests of single operations. The reference is first. */
export async function presentRuntimes(): Promise<Runtime[]> {
  const others = {
    wasm: openWasm,
    tensorflow: () => openTensorflow({ allowCpu: true }),
    webgpu: () => openWebgpu({ allowSoftware: true }),
  };
  const runtimes = [await openCpu()];
  // One after the other: TF.js has one current backend, and one that is asked for meanwhile takes the place of the one that starts.
  for (const [name, open] of Object.entries(others)) {
    try {
      runtimes.push(await open());
    } catch (cause) {
      if (required.has(name)) throw cause;
    }
  }
  return runtimes;
}

/** Numbers in [-0.5, 0.5), the same ones for the same seed. */
export function numbers(count: number, seed: number): Float32Array {
  let state = seed;
  return Float32Array.from({ length: count }, () => {
    state = (state * 16_807) % 2_147_483_647;
    return state / 2_147_483_647 - 0.5;
  });
}

/** Examples as a data set of this shape may hold them. A feature that is a category gets whole numbers in its range. */
export function batchFor({ inputShape, features, target }: ExampleShape, exampleCount: number, seed: number) {
  const sizeOf = (shape: readonly number[]) => shape.reduce((product, length) => product * length, 1);
  const inputs = numbers(sizeOf(inputShape) * exampleCount, seed + 1);
  const rowLength = sizeOf(inputShape);
  let offset = 0;
  for (const { kind, cardinality = 1, shape } of features ?? []) {
    const end = offset + sizeOf(shape);
    for (let row = 0; kind === "category" && row < exampleCount; row++) {
      for (let i = offset; i < end; i++) {
        const at = row * rowLength + i;
        inputs[at] = Math.floor((inputs[at]! + 0.5) * cardinality) % cardinality;
      }
    }
    offset = end;
  }
  const targetOf = (i: number): number => {
    if (target.kind === "number") return Math.sin(i + seed);
    return (i * 7 + seed) % (target.kind === "binary" ? 2 : target.classCount);
  };
  const targets = Float32Array.from({ length: exampleCount * targetLength(target) }, (_, i) => targetOf(i));
  return { exampleCount, inputs, targets };
}

/** Largest difference, as a share of the largest number expected. */
/** Of numbers of size one: what they come to by cancelling is rounding below this, on whichever engine. */
const leastScale = 1e-3;

export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let worst = 0;
  let scale = leastScale;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs((actual[i] ?? Number.NaN) - (expected[i] ?? 0));
    worst = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : Math.max(worst, difference);
    scale = Math.max(scale, Math.abs(expected[i] ?? 0));
  }
  return worst / scale;
}

const classes = (inputShape: number[], classCount: number): ExampleShape => ({
  inputShape,
  target: { kind: "class", classCount },
});
const category = (name: string, cardinality: number) => ({
  name,
  shape: [],
  kind: "category" as const,
  cardinality,
});

/** Of tokens 0 to 10, where 0 is padding. */
const sequences = (...parts: (readonly [name: string, length: number])[]) => ({
  inputShape: [parts.reduce((sum, [, length]) => sum + length, 0)],
  features: parts.map(([name, length]) => ({ ...category(name, 11), shape: [length] })),
});

const layer = (class_name: string, config: object) => ({ class_name, config });

const chain = (name: string, layers: readonly ReturnType<typeof layer>[]): ModelSpec => ({
  ...{ architecture: "layers", topology: { class_name: "Sequential", config: { name, layers } } },
});

const wired = (class_name: string, name: string, config: object, ...takes: string[]) => ({
  class_name,
  name,
  config: { name, ...config },
  inbound_nodes: takes.length > 0 ? [takes.map((taken) => [taken, 0, 0, {}])] : [],
});

export interface ModelCase {
  readonly name: string;
  readonly spec: ModelSpec;
  readonly shape: ExampleShape;
  /** Than it evaluates: by example (dropout), or by batch, whose gradient is then not the sum over its parts. */
  readonly trainsOtherwise?: "by example" | "by batch";
}

/** One of each architecture, small enough for the cpu engine, with most other layer kinds in the last. */
export const modelCases: readonly ModelCase[] = [
  {
    name: "cnn",
    spec: { architecture: "cnn", filters: [5, 6], kernelSize: 3, hidden: [9] },
    shape: classes([14, 13, 2], 4),
  },
  {
    name: "mlp",
    spec: { architecture: "mlp", hidden: [33, 17] },
    shape: classes([7, 5], 10),
  },
  {
    name: "layers",
    spec: {
      architecture: "layers",
      topology: {
        class_name: "Sequential",
        config: {
          name: "every_kind",
          layers: [
            layer("InputLayer", {
              name: "input",
              batch_input_shape: [null, 180],
              dtype: "float32",
              sparse: false,
            }),
            layer("Reshape", { name: "image", target_shape: [10, 9, 2] }),
            layer("Conv2D", {
              name: "c1",
              filters: 6,
              kernel_size: [3, 3],
              padding: "same",
              activation: "elu",
            }),
            layer("LayerNormalization", { name: "n1", axis: -1 }),
            layer("DepthwiseConv2D", { name: "d1", kernel_size: 3, depth_multiplier: 2, activation: "relu" }),
            layer("MaxPooling2D", { name: "p1", pool_size: [2, 2], strides: [1, 2], padding: "same" }),
            layer("Conv2D", { name: "c2", filters: 5, kernel_size: 2, strides: 2, use_bias: false }),
            layer("LeakyReLU", { name: "l1", alpha: 0.2 }),
            layer("AveragePooling2D", { name: "p2", pool_size: [2, 1], strides: [1, 1] }),
            layer("Activation", { name: "a1", activation: "tanh" }),
            layer("ReLU", { name: "r1", max_value: 6 }),
            layer("Dense", { name: "e1", units: 8, activation: "swish" }),
            layer("GlobalAveragePooling2D", { name: "g1" }),
            layer("Dense", { name: "e2", units: 3 }),
            layer("Softmax", { name: "s1", axis: -1 }),
          ],
        },
      },
    },
    shape: classes([180], 3),
  },
  {
    name: "layers, functional",
    spec: {
      architecture: "layers",
      topology: {
        class_name: "Model",
        config: {
          name: "branches",
          layers: [
            wired("InputLayer", "image", {
              batch_input_shape: [null, 6, 5, 2],
              dtype: "float32",
              sparse: false,
            }),
            wired(
              "Conv2D",
              "stem",
              { filters: 4, kernel_size: 3, padding: "same", activation: "relu" },
              "image",
            ),
            wired("Conv2D", "right", { filters: 4, kernel_size: 3, padding: "same" }, "stem"),
            wired("Add", "joined", {}, "right", "stem"),
            wired("Activation", "out", { activation: "relu" }, "joined"),
            wired("Conv2D", "gate", { filters: 4, kernel_size: 1, activation: "sigmoid" }, "out"),
            wired("Multiply", "gated", {}, "gate", "out"),
            wired("Concatenate", "both", { axis: -1 }, "gated", "out"),
            wired("GlobalMaxPooling2D", "top", {}, "both"),
            wired("Dense", "answer", { units: 3, activation: "softmax" }, "top"),
          ],
          input_layers: [["image", 0, 0]],
          output_layers: [["answer", 0, 0]],
        },
      },
    },
    shape: classes([6, 5, 2], 3),
  },
  {
    name: "layers, images of other sizes",
    spec: {
      architecture: "layers",
      topology: {
        class_name: "Model",
        config: {
          name: "sizes",
          layers: [
            wired("InputLayer", "image", {
              batch_input_shape: [null, 7, 6, 2],
              dtype: "float32",
              sparse: false,
            }),
            wired("ZeroPadding2D", "border", { padding: [[1, 0], [2, 1]] }, "image"), // biome-ignore format: one side a pair
            wired(
              "SeparableConv2D",
              "apart",
              { filters: 4, kernel_size: [3, 2], strides: 2, depth_multiplier: 2, activation: "elu" },
              "border",
            ),
            wired("UpSampling2D", "larger", { size: [2, 3] }, "apart"),
            wired(
              "SeparableConv2D",
              "again",
              { filters: 4, kernel_size: 3, padding: "same", activation: "relu" },
              "larger",
            ),
            wired("Subtract", "difference", {}, "larger", "again"),
            wired("ELU", "bent", {}, "difference"),
            wired("Maximum", "most", {}, "bent", "again"),
            wired("Minimum", "least", {}, "bent", "larger", "again"),
            wired("Average", "mean", {}, "most", "least", "again"),
            wired("GlobalAveragePooling2D", "top", {}, "mean"),
            wired("Dense", "answer", { units: 3, activation: "softmax" }, "top"),
          ],
          input_layers: [["image", 0, 0]],
          output_layers: [["answer", 0, 0]],
        },
      },
    },
    shape: classes([7, 6, 2], 3),
  },
  {
    name: "residual-cnn",
    spec: { architecture: "residual-cnn", filters: [4, 6], blocks: 1 },
    shape: classes([8, 7, 1], 3),
    trainsOtherwise: "by batch",
  },
  {
    name: "recurrent, gru",
    spec: {
      architecture: "recurrent",
      cell: "gru",
      embeddingWidth: 5,
      units: [6, 4],
      bidirectional: false,
      dropout: 0.3,
    },
    shape: { ...sequences(["text", 7]), target: { kind: "binary" } },
    trainsOtherwise: "by example",
  },
  {
    name: "recurrent, lstm",
    spec: {
      architecture: "recurrent",
      cell: "lstm",
      embeddingWidth: 5,
      units: [6],
      bidirectional: false,
      dropout: 0,
    },
    shape: { ...sequences(["text", 7]), target: { kind: "class", classCount: 3 } },
  },
  {
    name: "recurrent, both ways",
    spec: {
      architecture: "recurrent",
      cell: "lstm",
      embeddingWidth: 5,
      units: [4, 3],
      bidirectional: true,
      dropout: 0,
    },
    shape: { ...sequences(["text", 7]), target: { kind: "binary" } },
  },
  {
    name: "layers, along sequences",
    spec: chain("sequences", [
      layer("Conv1D", {
        ...{ name: "c1", filters: 5, kernel_size: [3], padding: "same", dilation_rate: [2] },
        ...{ activation: "relu", batch_input_shape: [null, 13, 3] },
      }),
      layer("MaxPooling1D", { name: "p1", pool_size: 3, strides: 1, padding: "same" }),
      layer("Conv1D", {
        name: "c2",
        filters: 4,
        kernel_size: 4,
        strides: 2,
        padding: "same",
        use_bias: false,
      }),
      layer("Bidirectional", {
        ...{ name: "b1", merge_mode: "sum" },
        layer: { class_name: "GRU", config: { name: "g1", units: 4, return_sequences: true } },
      }),
      layer("AveragePooling1D", { name: "p2", pool_size: [2] }),
      layer("Bidirectional", {
        ...{ name: "b2", merge_mode: "ave" },
        layer: { class_name: "LSTM", config: { name: "l1", units: 3, return_sequences: true } },
      }),
      layer("Conv1D", { name: "c3", filters: 3, kernel_size: 2, activation: "tanh" }),
      layer("GlobalMaxPooling1D", { name: "top" }),
      layer("Dense", { name: "answer", units: 3, activation: "softmax" }),
    ]),
    shape: classes([13, 3], 3),
  },
  {
    name: "layers, dilated",
    spec: chain("dilated", [
      layer("Conv2D", {
        ...{ name: "c1", filters: 4, kernel_size: 3, padding: "same", dilation_rate: [2, 3] },
        ...{ activation: "relu", batch_input_shape: [null, 9, 8, 2] },
      }),
      layer("Conv2D", {
        name: "c2",
        filters: 3,
        kernel_size: [2, 3],
        dilation_rate: [3, 1],
        use_bias: false,
      }),
      layer("GlobalMaxPooling2D", { name: "top" }),
      layer("Dense", { name: "answer", units: 3, activation: "softmax" }),
    ]),
    shape: classes([9, 8, 2], 3),
  },
  {
    name: "layers, causal and dilated by channel",
    spec: chain("causal", [
      layer("Conv1D", {
        ...{ name: "c1", filters: 4, kernel_size: 3, padding: "causal", dilation_rate: 2 },
        ...{ activation: "relu", batch_input_shape: [null, 14, 2] },
      }),
      layer("Reshape", { name: "image", target_shape: [7, 8, 1] }),
      layer("DepthwiseConv2D", {
        name: "d1",
        kernel_size: [2, 3],
        dilation_rate: [2, 2],
        depth_multiplier: 2,
      }),
      layer("GlobalMaxPooling2D", { name: "top" }),
      layer("Dense", { name: "answer", units: 3, activation: "softmax" }),
    ]),
    shape: classes([14, 2], 3),
  },
  {
    name: "transformer-lm",
    spec: { architecture: "transformer-lm", width: 8, heads: 2, layers: 2, dropout: 0.1 },
    shape: { ...sequences(["text", 6]), target: { kind: "tokens", length: 6, classCount: 11 } },
    trainsOtherwise: "by example",
  },
  {
    name: "encoder-decoder",
    spec: { architecture: "encoder-decoder", width: 8, heads: 2, layers: 1, dropout: 0 },
    shape: {
      ...sequences(["source", 5], ["written", 4]),
      target: { kind: "tokens", length: 4, classCount: 11 },
    },
  },
  {
    name: "tabular",
    spec: { architecture: "tabular", hidden: [7], embeddingWidth: 3 },
    shape: {
      inputShape: [5],
      features: [
        { name: "age", shape: [], kind: "number" },
        category("job", 5),
        { name: "rates", shape: [2], kind: "number" },
        category("home", 3),
      ],
      target: { kind: "binary" },
    },
  },
  {
    name: "two-tower",
    spec: { architecture: "two-tower", width: 4, hidden: [] },
    shape: {
      inputShape: [2],
      features: [category("user", 6), category("item", 9)],
      target: { kind: "number" },
    },
  },
  {
    name: "two-tower with dense layers",
    spec: { architecture: "two-tower", width: 4, hidden: [6, 5] },
    shape: {
      inputShape: [2],
      features: [category("user", 6), category("item", 9)],
      target: { kind: "binary" },
    },
  },
];

/** What the tensors hold; they are gone then. */
export async function valuesOf(runtime: Runtime, tensors: readonly Tensor[]): Promise<Float32Array[]> {
  const arrays = tensors.map((tensor) => new Float32Array(tensor.size));
  await runtime.read(tensors.map((tensor, i) => ({ tensor, into: arrays[i]! })));
  runtime.tf.dispose([...tensors]);
  return arrays;
}
