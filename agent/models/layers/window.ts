import { z } from "zod";
import {
  commonConfig,
  dataFormatSchema,
  glorotUniform,
  type Initializer,
  initializerOf,
  notSupported,
  paddingSchema,
  sidesSchema,
  widthSchema,
} from "./config.ts";
import {
  activationConfig,
  biasConfig,
  biasWeights,
  imageShape,
  kernelConfig,
  type LayerGeometry,
  noWeights,
  ShapeMismatch,
  sizeOf,
  type Weight,
} from "./geometry.ts";

/** Layers that move a window over an image. */

/** Length of one side after a window has moved over it. */
export function slide(length: number, window: number, stride: number, padding: "valid" | "same"): number {
  const outLength =
    padding === "same" ? Math.ceil(length / stride) : Math.floor((length - window) / stride) + 1;
  if (outLength < 1) throw new ShapeMismatch(`a window of ${window} does not fit a side of ${length}`);
  return outLength;
}

const windowConfig = {
  strides: sidesSchema.default([1, 1]),
  padding: paddingSchema.default("valid"),
  data_format: dataFormatSchema,
} as const;
const convConfig = {
  ...commonConfig,
  ...windowConfig,
  ...activationConfig,
  ...biasConfig,
  kernel_size: sidesSchema,
  dilation_rate: sidesSchema.default([1, 1]),
} as const;

interface Convolution {
  readonly kernel_size: [number, number];
  readonly strides: [number, number];
  readonly dilation_rate: [number, number];
  readonly padding: "valid" | "same";
}

/** What a window spans with so much between its taps. As in Keras, it moves by one then. */
export function reach(window: number, { dilation, stride }: { dilation: number; stride: number }): number {
  if (dilation > 1 && stride > 1)
    throw new ShapeMismatch("has strides and a dilation_rate above 1: one of them");
  return (window - 1) * dilation + 1;
}
function convolvedSides(
  { kernel_size, strides, dilation_rate, padding }: Convolution,
  [height, width]: readonly [number, number, number],
): [number, number] {
  const dilation = Math.max(...dilation_rate);
  const stride = Math.max(...strides);
  reach(1, { dilation, stride }); // also where it is the other side that moves by more
  const span = (side: 0 | 1) =>
    reach(kernel_size[side], { dilation: dilation_rate[side], stride: strides[side] });
  return [slide(height, span(0), strides[0], padding), slide(width, span(1), strides[1], padding)];
}

/** The kernel of a convolution with `filters` outputs for each channel that it sees. */
function convolutionKernel(
  name: string,
  of: { readonly config: { readonly kernel_size: readonly [number, number] }; readonly channels: number },
  { filters, initializer }: { readonly filters: number; readonly initializer: Initializer },
): { readonly kernel: Weight; readonly taps: number } {
  const [height, width] = of.config.kernel_size;
  const taps = height * width;
  const shape = [height, width, of.channels, filters];
  return { taps, kernel: { name, shape, initializer, fanIn: taps * of.channels, fanOut: taps * filters } };
}

export const conv2dSchema = z.strictObject({
  ...convConfig,
  ...kernelConfig,
  filters: widthSchema,
  groups: z.literal(1).optional(),
});
export function conv2dGeometry(
  config: z.output<typeof conv2dSchema>,
  shape: readonly number[],
): LayerGeometry {
  const image = imageShape(shape);
  const sides = convolvedSides(config, image);
  const of = { config, channels: image[2] };
  const outputs = { filters: config.filters, initializer: config.kernel_initializer };
  const { kernel, taps } = convolutionKernel("kernel", of, outputs);
  return {
    outputShape: [...sides, config.filters],
    weights: [kernel, ...biasWeights(config, config.filters)],
    multiplyAdds: sizeOf(sides) * taps * image[2] * config.filters,
  };
}

export const depthwiseSchema = z.strictObject({
  ...convConfig,
  depth_multiplier: z.number().int().positive().max(1024).default(1),
  depthwise_initializer: initializerOf(glorotUniform),
  depthwise_regularizer: notSupported,
  depthwise_constraint: notSupported,
  ...kernelConfig,
});
export function depthwiseGeometry(
  config: z.output<typeof depthwiseSchema>,
  shape: readonly number[],
): LayerGeometry {
  const image = imageShape(shape);
  const sides = convolvedSides(config, image);
  const channels = image[2] * config.depth_multiplier;
  const of = { config, channels: image[2] };
  const outputs = { filters: config.depth_multiplier, initializer: config.depthwise_initializer };
  const { kernel, taps } = convolutionKernel("depthwise_kernel", of, outputs);
  return {
    outputShape: [...sides, channels],
    weights: [kernel, ...biasWeights(config, channels)],
    multiplyAdds: sizeOf(sides) * taps * channels,
  };
}

/** Each channel by itself, then all of them at each pixel. */
export const separableSchema = z.strictObject({
  ...depthwiseSchema.shape,
  filters: widthSchema,
  pointwise_initializer: initializerOf(glorotUniform),
  pointwise_regularizer: notSupported,
  pointwise_constraint: notSupported,
});
export function separableGeometry(
  config: z.output<typeof separableSchema>,
  shape: readonly number[],
): LayerGeometry {
  const { filters } = config;
  const byChannel = depthwiseGeometry({ ...config, use_bias: false }, shape);
  const [height, width, channels] = imageShape(byChannel.outputShape);
  const pointwise = { name: "pointwise_kernel", shape: [1, 1, channels, filters], fanIn: channels };
  const outputShape = [height, width, filters];
  return {
    outputShape,
    weights: [
      ...byChannel.weights,
      { ...pointwise, fanOut: filters, initializer: config.pointwise_initializer },
      ...biasWeights(config, filters),
    ],
    multiplyAdds: byChannel.multiplyAdds + sizeOf(outputShape) * channels,
    keptElements: sizeOf(byChannel.outputShape),
  };
}

export const poolSchema = z
  .strictObject({
    ...commonConfig,
    ...windowConfig,
    strides: sidesSchema.nullish(),
    pool_size: sidesSchema.default([2, 2]),
  })
  .transform((config) => ({ ...config, strides: config.strides ?? config.pool_size }));
export function poolGeometry(config: z.output<typeof poolSchema>, shape: readonly number[]): LayerGeometry {
  const [height, width, channels] = imageShape(shape);
  const outHeight = slide(height, config.pool_size[0], config.strides[0], config.padding);
  const outWidth = slide(width, config.pool_size[1], config.strides[1], config.padding);
  const outputShape = [outHeight, outWidth, channels];
  return noWeights(outputShape, sizeOf(outputShape) * sizeOf(config.pool_size));
}
