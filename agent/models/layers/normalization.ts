import { z } from "zod";
import { commonConfig, initializerOf, notSupported, ones, zeros } from "./config.ts";
import { channelWeight, type LayerGeometry, sizeOf } from "./geometry.ts";

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

export const layerNormalizationSchema = z.strictObject({
  ...commonConfig,
  ...affineConfig,
  axis: z.union([z.literal(-1), z.tuple([z.literal(-1)])]).default(-1),
  supports_masking: z.boolean().optional(),
});
export function layerNormalizationGeometry(
  config: z.output<typeof layerNormalizationSchema>,
  shape: readonly number[],
): LayerGeometry {
  const width = shape.at(-1) ?? 1;
  const weights = [
    ...(config.scale ? [channelWeight("gamma", width, config.gamma_initializer)] : []),
    ...(config.center ? [channelWeight("beta", width, config.beta_initializer)] : []),
  ];
  return { outputShape: shape, weights, multiplyAdds: 4 * sizeOf(shape) };
}
