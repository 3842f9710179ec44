import { z } from "zod";
import {
  commonConfig,
  dataFormatSchema,
  glorotUniform,
  initializerOf,
  paddingSchema,
  sideSchema,
  widthSchema,
} from "./config.ts";
import {
  activationConfig,
  biasConfig,
  biasWeights,
  kernelConfig,
  type LayerGeometry,
  noWeights,
  ShapeMismatch,
} from "./geometry.ts";
import { reach, slide } from "./window.ts";

/** Layers that move a window along a sequence. */

/** With `causal` a place sees itself and what comes before it. Source: van den Oord et al., "WaveNet", 2016. */
export const conv1dSchema = z.strictObject({
  ...commonConfig,
  ...activationConfig,
  ...biasConfig,
  ...kernelConfig,
  kernel_initializer: initializerOf(glorotUniform),
  filters: widthSchema,
  kernel_size: sideSchema,
  strides: sideSchema.default(1),
  padding: z.enum(["valid", "same", "causal"]).default("valid"),
  data_format: dataFormatSchema,
  dilation_rate: sideSchema.default(1),
  groups: z.literal(1).optional(),
});
export function conv1dGeometry(
  config: z.output<typeof conv1dSchema>,
  shape: readonly number[],
): LayerGeometry {
  const [places, channels] = sequenceShape(shape);
  const { filters, kernel_size, strides, padding, dilation_rate } = config;
  const span = reach(kernel_size, { dilation: dilation_rate, stride: strides });
  const outPlaces = slide(places, span, strides, padding === "causal" ? "same" : padding);
  const kernel = {
    ...{ name: "kernel", shape: [kernel_size, channels, filters], initializer: config.kernel_initializer },
    ...{ fanIn: kernel_size * channels, fanOut: kernel_size * filters },
  };
  return {
    outputShape: [outPlaces, filters],
    weights: [kernel, ...biasWeights(config, filters)],
    multiplyAdds: outPlaces * kernel_size * channels * filters,
  };
}

export const pool1dSchema = z
  .strictObject({
    ...commonConfig,
    strides: sideSchema.nullish(),
    padding: paddingSchema.default("valid"),
    data_format: dataFormatSchema,
    pool_size: sideSchema.default(2),
  })
  .transform((config) => ({ ...config, strides: config.strides ?? config.pool_size }));
export function pool1dGeometry(
  config: z.output<typeof pool1dSchema>,
  shape: readonly number[],
): LayerGeometry {
  const [places, channels] = sequenceShape(shape);
  const outPlaces = slide(places, config.pool_size, config.strides, config.padding);
  return noWeights([outPlaces, channels], outPlaces * channels * config.pool_size);
}

function sequenceShape(shape: readonly number[]): [number, number] {
  if (shape.length !== 2)
    throw new ShapeMismatch(`needs [places, width], but [${shape.join(", ")}] comes in`);
  return shape as [number, number];
}

export const globalPool1dSchema = z.strictObject({ ...commonConfig, data_format: dataFormatSchema });
export const globalPool1dGeometry = (_config: unknown, shape: readonly number[]): LayerGeometry => {
  const [places, channels] = sequenceShape(shape);
  return noWeights([channels], places * channels);
};
