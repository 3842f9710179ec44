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
