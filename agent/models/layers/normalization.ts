import { z } from "zod";
import { commonConfig, type Initializer, initializerOf, notSupported, ones, zeros } from "./config.ts";
import { channelWeight, type LayerGeometry, ShapeMismatch, sizeOf, type Weight } from "./geometry.ts";

const affineConfig = {
  epsilon: z.number().positive().max(1).default(1e-3),
  center: z.boolean().default(true),
  scale: z.boolean().default(true),
  gamma_initializer: initializerOf(ones),
  beta_initializer: initializerOf(zeros),
  gamma_regularizer: notSupported,
  beta_regularizer: notSupported,
  gamma_constraint: notSupported,
  beta_constraint: notSupported,
} as const;

/** -1, or the number of the last axis, which is how TF.js writes it once it knows the shape; alone, or in a list. */
const axisSchema = z.union([z.number().int(), z.tuple([z.number().int()])]).default(-1);
function lastLength(shape: readonly number[], given: z.output<typeof axisSchema>): number {
  const width = shape.at(-1);
  const axis = typeof given === "number" ? given : given[0];
  if (width === undefined || (axis !== -1 && axis !== shape.length)) {
    throw new ShapeMismatch("normalises the last axis only: axis -1");
  }
  return width;
}

export const layerNormalizationSchema = z.strictObject({
  ...commonConfig,
  ...affineConfig,
  axis: axisSchema,
  supports_masking: z.boolean().optional(),
});
export function layerNormalizationGeometry(
  config: z.output<typeof layerNormalizationSchema>,
  shape: readonly number[],
): LayerGeometry {
  const width = lastLength(shape, config.axis);
  const weights = [
    ...(config.scale ? [channelWeight("gamma", width, config.gamma_initializer)] : []),
    ...(config.center ? [channelWeight("beta", width, config.beta_initializer)] : []),
  ];
  return { outputShape: shape, weights, multiplyAdds: 4 * sizeOf(shape) };
}

/** Over all but the last axis, as images and rows of features have their channels there. */
export const batchNormalizationSchema = z.strictObject({
  ...commonConfig,
  ...affineConfig,
  axis: axisSchema,
  momentum: z.number().min(0).max(1).default(0.99),
  moving_mean_initializer: initializerOf(zeros),
  moving_variance_initializer: initializerOf(ones),
});
export function batchNormalizationGeometry(
  config: z.output<typeof batchNormalizationSchema>,
  shape: readonly number[],
): LayerGeometry {
  const width = lastLength(shape, config.axis);
  const average = (name: string, initializer: Initializer): Weight => ({
    ...channelWeight(name, width, initializer),
    isAverage: true,
  });
  const weights = [
    ...(config.scale ? [channelWeight("gamma", width, config.gamma_initializer)] : []),
    ...(config.center ? [channelWeight("beta", width, config.beta_initializer)] : []),
    average("moving_mean", config.moving_mean_initializer),
    average("moving_variance", config.moving_variance_initializer),
  ];
  return { outputShape: shape, weights, multiplyAdds: 4 * sizeOf(shape) };
}

/** Which elements fall out follows from the job's seed, the step, the layer and the example, whatever seed a file names. */
export const dropoutSchema = z.strictObject({
  ...commonConfig,
  rate: z.number().min(0).lt(1),
  noise_shape: z.null().optional(),
  seed: z.number().nullish(),
});
