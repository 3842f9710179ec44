import type { Tensor, Tensor4D } from "@tensorflow/tfjs";
import type { Layer } from "../models/layers/kinds.ts";
import { spread } from "./composed-operations.ts";
import type { LayerWeights } from "./layer-run.ts";
import type { Runtime } from "./runtime.ts";

/** Layers of images that are made of other operations, so that every engine has them. Call them inside a tidy. */

type Of<Kind extends Layer["kind"]> = Extract<Layer, { kind: Kind }>;

/** Each channel by itself, without bias or activation. */
export function byChannel(
  { tf }: Runtime,
  { config }: Of<"DepthwiseConv2D"> | Of<"SeparableConv2D">,
  weights: LayerWeights,
  x: Tensor,
): Tensor4D {
  const { strides, padding, dilation_rate } = config;
  const filter = spread(tf, weights.depthwise_kernel as Tensor4D, dilation_rate);
  return tf.depthwiseConv2d(x as Tensor4D, filter, strides, padding);
}

export function zeroPadding({ tf }: Runtime, { config }: Of<"ZeroPadding2D">, x: Tensor): Tensor {
  return tf.pad(x, [[0, 0], ...config.padding, [0, 0]]);
}

/** As copies side by side: nearest-neighbour resizing has no gradient on every engine. */
export function upSampling({ tf }: Runtime, layer: Of<"UpSampling2D">, x: Tensor): Tensor {
  const [batch, height] = x.shape as [number, number, number, number];
  const [outHeight, outWidth, channels] = layer.outputShape as [number, number, number];
  const [rows, columns] = layer.config.size;
  const copies = (tensor: Tensor, count: number, axis: number) =>
    tf.concat(new Array<Tensor>(count).fill(tensor), axis);
  const wide = copies(tf.expandDims(x, 3), columns, 3); // [batch, height, width, columns, channels]
  const lines = tf.reshape(wide, [batch, height, 1, outWidth * channels]);
  return tf.reshape(copies(lines, rows, 2), [batch, outHeight, outWidth, channels]);
}

/** [batch, channels]. TF.js's own gradient makes an array of ones as large as the images for each batch, outside the engine. */
export function meanOverPixels({ tf }: Runtime, x: Tensor): Tensor {
  const [batch, height, width, channels] = x.shape as [number, number, number, number];
  const mean = tf.customGrad((images) => ({
    value: tf.mean(images as Tensor, [1, 2]),
    gradFunc: (dy: Tensor) => {
      const each = tf.reshape(tf.mul(dy, 1 / (height * width)), [batch, 1, 1, channels]);
      return tf.add(tf.zeros(x.shape), each);
    },
  }));
  return mean(x);
}

type Pair = readonly [rows: number, columns: number];

/**
 * Means over windows; what lies outside of the image counts for nothing, in the divisor neither. TF.js divides the gradient at such a border
 * by the whole window (on cpu, wasm and webgpu; libtensorflow does not), so there the images get their border first, and the
 * means that have some of it in them are put right.
 */
export function averagePool(
  { tf }: Runtime,
  x: Tensor4D,
  {
    window,
    strides,
    padding,
  }: { readonly window: Pair; readonly strides: Pair; readonly padding: "valid" | "same" },
): Tensor4D {
  const [, height, width] = x.shape;
  const rows = windowsAlong(height, window[0], strides[0]);
  const columns = windowsAlong(width, window[1], strides[1]);
  const isBare = padding === "valid" || [...rows.border, ...columns.border].every((count) => count === 0);
  if (isBare) return tf.avgPool(x, [...window], [...strides], "valid");
  const bordered = tf.pad(x, [[0, 0], rows.border, columns.border, [0, 0]]);
  const means = tf.avgPool(bordered, [...window], [...strides], "valid");
  const shares = rows.counts.flatMap((down) =>
    columns.counts.map((across) => (window[0] * window[1]) / (down * across)),
  );
  return tf.mul(means, tf.tensor(shares, [1, rows.counts.length, columns.counts.length, 1]));
}

/** Along one axis with `same` padding: what is added at both ends, and how many pixels each window has. */
function windowsAlong(length: number, window: number, stride: number) {
  const count = Math.ceil(length / stride);
  const added = Math.max(0, (count - 1) * stride + window - length);
  const before = Math.floor(added / 2);
  const counts = Array.from({ length: count }, (_, i) => {
    const start = i * stride - before;
    return Math.min(start + window, length) - Math.max(start, 0);
  });
  return { border: [before, added - before] as [number, number], counts };
}
