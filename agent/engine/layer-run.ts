import type { Tensor, Tensor1D, Tensor2D, Tensor3D, Tensor4D } from "@tensorflow/tfjs";
import type { Activation } from "../models/layers/config.ts";
import type { Layer } from "../models/layers/kinds.ts";
import { applyActivation } from "./activation.ts";
import { attention } from "./attention.ts";
import { dropoutMask } from "./dropout.ts";
import { averagePool, byChannel, meanOverPixels, upSampling, zeroPadding } from "./image-layers.ts";
import { bidirectional, recurrent } from "./recurrent.ts";
import type { Runtime } from "./runtime.ts";

/** Weights of one layer by name: `kernel`, `bias`. */
export type LayerWeights = Readonly<Record<string, Tensor>>;

/** What layers that behave otherwise in training need to know of the step. */
export interface Training {
  readonly seed: number;
  readonly step: number;
  /** Indices of the batch's examples in the data set. */
  readonly examples: ArrayLike<number>;
  /** Takes what a batch shows of which a layer keeps running averages, by the names of those weights. */
  readonly observe: (layer: Layer, statistics: Readonly<Record<string, Tensor>>) => void;
}

interface LayerCall {
  /** What comes in, in the order of the layer's sources. */
  readonly takes: readonly Tensor[];
  /** f32 [batch, places], for layers that look at padding. */
  readonly mask: Tensor2D | null;
  /** Without the softmax or sigmoid that the layer ends in. */
  readonly isBare: boolean;
  readonly training: Training | undefined;
}

/** One layer. Call it inside a tidy. */
export function runLayer(runtime: Runtime, layer: Layer, weights: LayerWeights, call: LayerCall): Tensor {
  const { tf } = runtime;
  const { takes, mask, isBare, training } = call;
  const x = takes[0]!;
  const batch = x.shape[0] ?? 0;
  switch (layer.kind) {
    case "Dense":
      return withActivation(runtime, layer.config.activation, isBare, (relu) =>
        dense(runtime, weights, x, relu),
      );
    case "Conv1D":
      return withActivation(runtime, layer.config.activation, isBare, (relu) =>
        conv1d(runtime, layer, weights, x as Tensor3D, relu),
      );
    case "Conv2D": {
      const { strides, padding, activation, dilation_rate: dilations } = layer.config;
      return withActivation(runtime, activation, isBare, (relu) => {
        const [image, filter] = [x as Tensor4D, weights.kernel as Tensor4D];
        return runtime.operations.conv2d(image, filter, biasOf(weights), {
          ...{ strides, padding, dilations, relu },
        });
      });
    }
    case "DepthwiseConv2D":
      return withActivation(runtime, layer.config.activation, isBare, (relu) =>
        depthwise(runtime, layer, weights, x, relu),
      );
    case "SeparableConv2D":
      return withActivation(runtime, layer.config.activation, isBare, (relu) =>
        runtime.operations.conv2d(
          byChannel(runtime, layer, weights, x),
          weights.pointwise_kernel as Tensor4D,
          biasOf(weights),
          { strides: [1, 1], padding: "valid", dilations: [1, 1], relu },
        ),
      );
    case "ZeroPadding2D":
      return zeroPadding(runtime, layer, x);
    case "UpSampling2D":
      return upSampling(runtime, layer, x);
    case "MaxPooling2D": {
      const { pool_size, strides, padding } = layer.config;
      return tf.maxPool(x as Tensor4D, pool_size, strides, padding);
    }
    case "AveragePooling2D": {
      const { pool_size, strides, padding } = layer.config;
      return averagePool(runtime, x as Tensor4D, { window: pool_size, strides, padding });
    }
    case "MaxPooling1D": {
      const { pool_size, strides, padding } = layer.config;
      const rows = tf.expandDims(x, 1) as Tensor4D;
      return tf.squeeze(tf.maxPool(rows, [1, pool_size], [1, strides], padding), [1]);
    }
    case "AveragePooling1D": {
      const { pool_size, strides, padding } = layer.config;
      const rows = tf.expandDims(x, 1) as Tensor4D;
      const of = { window: [1, pool_size], strides: [1, strides], padding } as const;
      return tf.squeeze(averagePool(runtime, rows, of), [1]);
    }
    case "GlobalMaxPooling1D":
      return tf.max(x, 1);
    case "GlobalAveragePooling2D":
      return meanOverPixels(runtime, x);
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
    case "ELU":
      return tf.elu(x);
    case "Softmax":
      return isBare ? x : tf.softmax(x);
    case "LayerNormalization": {
      const { gamma, beta } = affineOf(weights);
      return runtime.operations.layerNorm(x, gamma, beta, layer.config.epsilon);
    }
    case "BatchNormalization":
      return batchNormalization(runtime, layer, weights, x, training);
    case "Dropout":
      return training ? tf.mul(x, dropoutMask(runtime, layer, x, training)) : x;
    case "PositionEmbedding": {
      const [, places, width] = x.shape as [number, number, number];
      return tf.add(tf.zerosLike(x), tf.slice(weights.embeddings as Tensor2D, [0, 0], [places, width]));
    }
    case "MultiHeadAttention":
      return attention(runtime, layer, weights, takes, mask);
    case "LSTM":
    case "GRU":
      return recurrent(runtime, layer, weights, x as Tensor3D, mask);
    case "Bidirectional":
      return bidirectional(runtime, layer, weights, x as Tensor3D, mask);
    case "GlobalAveragePooling1D":
      return sequenceAverage(runtime, x, mask);
    case "Embedding":
      return runtime.operations.embedding(weights.embeddings as Tensor2D, tf.cast(x, "int32"));
    case "Add":
      return takes.reduce((sum, taken) => tf.add(sum, taken));
    case "Subtract":
      return tf.sub(x, takes[1]!);
    case "Average":
      return tf.div(tf.addN([...takes]), takes.length);
    case "Maximum":
      return takes.reduce((most, taken) => tf.maximum(most, taken));
    case "Minimum":
      return takes.reduce((least, taken) => tf.minimum(least, taken));
    case "Multiply":
      return takes.reduce((product, taken) => tf.mul(product, taken));
    case "Concatenate":
      return tf.concat([...takes], -1);
    case "Dot":
      return tf.sum(tf.mul(x, takes[1]!), -1, true);
  }
}

/** With the numbers of this batch in training, and with the running averages in serving. */
function batchNormalization(
  { tf, operations }: Runtime,
  layer: Extract<Layer, { kind: "BatchNormalization" }>,
  weights: LayerWeights,
  x: Tensor,
  training: Training | undefined,
): Tensor {
  const { gamma, beta } = affineOf(weights);
  const { epsilon } = layer.config;
  if (training) {
    const { y, mean, variance } = operations.batchNorm(x, gamma, beta, epsilon);
    training.observe(layer, { moving_mean: mean, moving_variance: variance });
    return y;
  }
  // An outer optimizer that overshoots may take an average variance below zero.
  const spread = tf.rsqrt(tf.add(tf.relu(weights.moving_variance!), epsilon));
  const scale = gamma ? tf.mul(spread, gamma) : spread;
  const shift = tf.neg(tf.mul(weights.moving_mean!, scale));
  return tf.add(tf.mul(x, scale), beta ? tf.add(shift, beta) : shift);
}

function sequenceAverage({ tf }: Runtime, x: Tensor, mask: Tensor2D | null): Tensor {
  if (!mask) return tf.mean(x, 1);
  const sum = tf.sum(tf.mul(x, tf.expandDims(mask, 2)), 1);
  return tf.div(sum, tf.maximum(tf.sum(mask, 1, true), 1));
}

const affineOf = ({ gamma, beta }: LayerWeights) => ({
  gamma: (gamma as Tensor1D | undefined) ?? null,
  beta: (beta as Tensor1D | undefined) ?? null,
});

const biasOf = (weights: LayerWeights): Tensor1D | null => (weights.bias as Tensor1D | undefined) ?? null;

/** Over the last axis, as in Keras. */
function dense({ tf, operations }: Runtime, weights: LayerWeights, x: Tensor, relu: boolean): Tensor {
  const kernel = weights.kernel as Tensor2D;
  const rows = x.rank === 2 ? (x as Tensor2D) : (tf.reshape(x, [-1, kernel.shape[0]]) as Tensor2D);
  const y = operations.dense(rows, kernel, biasOf(weights), relu);
  return x.rank === 2 ? y : tf.reshape(y, [...x.shape.slice(0, -1), kernel.shape[1]]);
}

/** As a convolution over images of one line. */
function conv1d(
  { tf, operations }: Runtime,
  { config }: Extract<Layer, { kind: "Conv1D" }>,
  weights: LayerWeights,
  x: Tensor3D,
  relu: boolean,
): Tensor {
  const { kernel_size, strides, padding, dilation_rate } = config;
  const isCausal = padding === "causal";
  const before = isCausal ? (kernel_size - 1) * dilation_rate : 0;
  const padded = before > 0 ? tf.pad(x, [[0, 0], [before, 0], [0, 0]]) : x; // biome-ignore format: one axis a pair
  const y = operations.conv2d(
    tf.expandDims(padded, 1) as Tensor4D,
    tf.expandDims(weights.kernel!, 0) as Tensor4D,
    biasOf(weights),
    {
      ...{ strides: [1, strides], dilations: [1, dilation_rate], relu },
      padding: isCausal ? "valid" : padding,
    },
  );
  return tf.squeeze(y, [1]);
}

function depthwise(
  runtime: Runtime,
  layer: Extract<Layer, { kind: "DepthwiseConv2D" }>,
  weights: LayerWeights,
  x: Tensor,
  relu: boolean,
): Tensor {
  const { tf } = runtime;
  const y = byChannel(runtime, layer, weights, x);
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
