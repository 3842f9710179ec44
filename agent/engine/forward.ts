import type { Tensor, Tensor1D, Tensor2D, Tensor4D } from "@tensorflow/tfjs";
import type { Activation } from "../models/layer-config.ts";
import type { Layer } from "../models/layer-kinds.ts";
import { endsInSoftmax } from "../models/layers.ts";
import type { Runtime } from "./runtime.ts";

/** Weights of one layer by name: `kernel`, `bias`. */
export type LayerWeights = Readonly<Record<string, Tensor>>;

/**
 * Runs layers in order. Call it inside a tidy.
 *
 * @param x shape [batch, ...inputShape of the first layer]
 * @param weights one entry a layer
 * @param ending `logits` leaves out the softmax at the very end, for a cross-entropy that is stable
 *
 * The layers are run here and not by TF.js's layers API, which takes fused operations apart when gradients are wanted,
 * gives variables names of its own, and builds whatever class a topology names.
 */
export function forward(
  runtime: Runtime,
  layers: readonly Layer[],
  weights: readonly LayerWeights[],
  x: Tensor,
  ending: "softmax" | "logits",
): Tensor {
  return layers.reduce((input, layer, i) => {
    const isBare = ending === "logits" && i === layers.length - 1 && endsInSoftmax(layer);
    return apply(runtime, layer, weights[i] ?? {}, input, isBare);
  }, x);
}

/** @param isBare without the softmax that the layer ends in */
function apply(runtime: Runtime, layer: Layer, weights: LayerWeights, x: Tensor, isBare: boolean): Tensor {
  const { tf } = runtime;
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

function applyActivation({ tf }: Runtime, activation: Activation, x: Tensor): Tensor {
  switch (activation) {
    case "linear":
      return x;
    case "swish":
      return tf.mul(x, tf.sigmoid(x));
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
