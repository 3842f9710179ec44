import type { Tensor, Tensor1D, Tensor2D, Tensor4D } from "@tensorflow/tfjs";
import { activationAtEnd } from "../models/ending.ts";
import type { Graph, ModelInput } from "../models/graph.ts";
import type { Activation } from "../models/layers/config.ts";
import type { Layer } from "../models/layers/kinds.ts";
import type { Runtime } from "./runtime.ts";

/** Weights of one layer by name: `kernel`, `bias`. */
export type LayerWeights = Readonly<Record<string, Tensor>>;

/** Layers `[fromLayer, toLayer)` of a graph, and their weights. */
export interface Run {
  readonly graph: Graph;
  readonly fromLayer: number;
  readonly toLayer: number;
  /** One entry a layer of the run. */
  readonly weights: readonly LayerWeights[];
}

/**
 * Runs layers in order. Call it inside a tidy.
 *
 * @param x rows of examples [batch, ...shape of a row] for a run from the first layer, else the output of the layer before
 * @param ending `bare` leaves out the softmax or sigmoid at the very end, for a cross-entropy that is stable
 *
 * The layers are run here and not by TF.js's layers API, which takes fused operations apart when gradients are wanted,
 * gives variables names of its own, and builds whatever class a topology names.
 */
export function forward(
  runtime: Runtime,
  { graph, fromLayer, toLayer, weights }: Run,
  x: Tensor,
  ending: "whole" | "bare",
): Tensor {
  const outputs: Tensor[] = [];
  const inputs = fromLayer === 0 ? graph.inputs.map((input) => inputOf(runtime, input, x)) : [];
  for (let at = fromLayer; at < toLayer; at++) {
    const layer = graph.layers[at]!;
    const takes = layer.sources.map((source) => {
      if (source >= fromLayer) return outputs[source - fromLayer]!;
      return source < 0 ? inputs[-1 - source]! : x; // a run is cut where one tensor crosses
    });
    const isBare = ending === "bare" && at === graph.layers.length - 1 && activationAtEnd(layer) !== "other";
    outputs.push(apply(runtime, layer, weights[at - fromLayer]!, takes, isBare));
  }
  return outputs.at(-1)!;
}

/** The part of the rows that is this input. */
function inputOf({ tf }: Runtime, { shape, offset, elementCount }: ModelInput, x: Tensor): Tensor {
  const batch = x.shape[0]!;
  if (x.size === batch * elementCount) return tf.reshape(x, [batch, ...shape]);
  return tf.reshape(tf.slice(x, [0, offset], [batch, elementCount]), [batch, ...shape]);
}

/** @param isBare without the softmax or sigmoid that the layer ends in */
function apply(
  runtime: Runtime,
  layer: Layer,
  weights: LayerWeights,
  takes: readonly Tensor[],
  isBare: boolean,
): Tensor {
  const { tf } = runtime;
  const x = takes[0]!;
  const batch = x.shape[0] ?? 0;
  switch (layer.kind) {
    case "Dense":
      return withActivation(runtime, layer.config.activation, isBare, (relu) =>
        dense(runtime, weights, x, relu),
      );
    case "Conv2D": {
      const { strides, padding, activation } = layer.config;
      return withActivation(runtime, activation, isBare, (relu) => {
        const [image, filter] = [x as Tensor4D, weights.kernel as Tensor4D];
        return runtime.operations.conv2d(image, filter, biasOf(weights), {
          strides,
          padding,
          relu,
        });
      });
    }
    case "DepthwiseConv2D":
      return withActivation(runtime, layer.config.activation, isBare, (relu) =>
        depthwise(runtime, layer, weights, x, relu),
      );
    case "MaxPooling2D":
    case "AveragePooling2D": {
      const { pool_size, strides, padding } = layer.config;
      const pool = layer.kind === "MaxPooling2D" ? tf.maxPool : tf.avgPool;
      return pool(x as Tensor4D, pool_size, strides, padding);
    }
    case "GlobalAveragePooling2D":
      return tf.mean(x, [1, 2]);
    case "GlobalMaxPooling2D":
      return tf.max(x, [1, 2]);
    case "Flatten":
    case "Reshape":
      return tf.reshape(x, [batch, ...layer.outputShape]);
    case "Activation":
      return isBare ? x : applyActivation(runtime, layer.config.activation, x);
    case "ReLU":
      return layer.config.max_value ? tf.clipByValue(x, 0, layer.config.max_value) : tf.relu(x);
    case "LeakyReLU":
      return tf.leakyRelu(x, layer.config.alpha);
    case "Softmax":
      return isBare ? x : tf.softmax(x);
    case "LayerNormalization":
      return runtime.operations.layerNorm(
        x,
        (weights.gamma as Tensor1D | undefined) ?? null,
        (weights.beta as Tensor1D | undefined) ?? null,
        layer.config.epsilon,
      );
    case "Embedding":
      return runtime.operations.embedding(weights.embeddings as Tensor2D, tf.cast(x, "int32"));
    case "Add":
      return takes.reduce((sum, taken) => tf.add(sum, taken));
    case "Multiply":
      return takes.reduce((product, taken) => tf.mul(product, taken));
    case "Concatenate":
      return tf.concat([...takes], -1);
    case "Dot":
      return tf.sum(tf.mul(x, takes[1]!), -1, true);
  }
}

const biasOf = (weights: LayerWeights): Tensor1D | null => (weights.bias as Tensor1D | undefined) ?? null;

/** Over the last axis, as in Keras. */
function dense({ tf, operations }: Runtime, weights: LayerWeights, x: Tensor, relu: boolean): Tensor {
  const kernel = weights.kernel as Tensor2D;
  const rows = x.rank === 2 ? (x as Tensor2D) : (tf.reshape(x, [-1, kernel.shape[0]]) as Tensor2D);
  const y = operations.dense(rows, kernel, biasOf(weights), relu);
  return x.rank === 2 ? y : tf.reshape(y, [...x.shape.slice(0, -1), kernel.shape[1]]);
}

function depthwise(
  { tf }: Runtime,
  { config }: Extract<Layer, { kind: "DepthwiseConv2D" }>,
  weights: LayerWeights,
  x: Tensor,
  relu: boolean,
): Tensor {
  const filter = weights.depthwise_kernel as Tensor4D;
  const { strides, padding } = config;
  const y = tf.depthwiseConv2d(x as Tensor4D, filter, strides, padding);
  const bias = biasOf(weights);
  const shifted = bias ? tf.add<Tensor4D>(y, bias) : y;
  return relu ? tf.relu(shifted) : shifted;
}

/** Lets the operation do a ReLU on its way to memory; other activations run over its result. */
function withActivation(
  runtime: Runtime,
  activation: Activation,
  isBare: boolean,
  compute: (relu: boolean) => Tensor,
): Tensor {
  if (activation === "relu") return compute(true);
  const y = compute(false);
  return isBare ? y : applyActivation(runtime, activation, y);
}

function applyActivation({ tf, operations }: Runtime, activation: Activation, x: Tensor): Tensor {
  switch (activation) {
    case "linear":
      return x;
    case "swish":
      return tf.mul(x, tf.sigmoid(x));
    case "hard_sigmoid":
      return tf.clipByValue(tf.add(tf.mul(x, 0.2), 0.5), 0, 1);
    case "gelu":
      return operations.gelu(x, "erf");
    case "gelu_new":
      return operations.gelu(x, "tanh");
    case "relu":
    case "relu6":
    case "elu":
    case "selu":
    case "sigmoid":
    case "softplus":
    case "softmax":
    case "tanh":
      return tf[activation](x);
  }
}
