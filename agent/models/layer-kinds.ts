import { z } from "zod";
import {
  activationSchema,
  commonConfig,
  dataFormatSchema,
  type Initializer,
  initializerOf,
  notSupported,
  ones,
  widthSchema,
  zeros,
} from "./layer-config.ts";
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
} from "./layer-geometry.ts";
import {
  conv2dGeometry,
  conv2dSchema,
  depthwiseGeometry,
  depthwiseSchema,
  poolGeometry,
  poolSchema,
} from "./window-layers.ts";

const denseSchema = z.strictObject({
  ...commonConfig,
  units: widthSchema,
  ...activationConfig,
  ...kernelConfig,
  ...biasConfig,
});
function denseGeometry(config: z.output<typeof denseSchema>, shape: readonly number[]): LayerGeometry {
  const fanIn = shape.at(-1);
  if (fanIn === undefined) throw new ShapeMismatch("needs at least one dimension");
  const kernel = { name: "kernel", shape: [fanIn, config.units], initializer: config.kernel_initializer };
  return {
    outputShape: [...shape.slice(0, -1), config.units],
    weights: [{ ...kernel, fanIn, fanOut: config.units }, ...biasWeights(config, config.units)],
    multiplyAdds: sizeOf(shape) * config.units,
  };
}

const globalPoolSchema = z.strictObject({ ...commonConfig, data_format: dataFormatSchema });
const globalPoolGeometry = (_config: unknown, shape: readonly number[]): LayerGeometry =>
  noWeights([imageShape(shape)[2]], sizeOf(shape));

const flattenSchema = z.strictObject({ ...commonConfig, data_format: dataFormatSchema });
const flattenGeometry = (_config: unknown, shape: readonly number[]): LayerGeometry =>
  noWeights([sizeOf(shape)]);

const reshapeSchema = z.strictObject({
  ...commonConfig,
  target_shape: z.array(z.number().int().positive()).min(1).max(7),
});
function reshapeGeometry(config: z.output<typeof reshapeSchema>, shape: readonly number[]): LayerGeometry {
  if (sizeOf(config.target_shape) !== sizeOf(shape)) {
    throw new ShapeMismatch(`cannot make [${config.target_shape.join(", ")}] of [${shape.join(", ")}]`);
  }
  return noWeights(config.target_shape);
}

const pointwise = (_config: unknown, shape: readonly number[]): LayerGeometry =>
  noWeights(shape, sizeOf(shape));
const activationLayerSchema = z.strictObject({ ...commonConfig, activation: activationSchema });
const reluSchema = z.strictObject({ ...commonConfig, max_value: z.number().positive().nullish() });
const leakyReluSchema = z.strictObject({ ...commonConfig, alpha: z.number().min(0).max(1).default(0.3) });
/** Along the last axis only, as everything downstream reads class probabilities there. */
const softmaxSchema = z.strictObject({ ...commonConfig, axis: z.literal(-1).default(-1) });

const layerNormalizationSchema = z.strictObject({
  ...commonConfig,
  axis: z.union([z.literal(-1), z.tuple([z.literal(-1)])]).default(-1),
  epsilon: z.number().positive().max(1).default(1e-3),
  center: z.boolean().default(true),
  scale: z.boolean().default(true),
  gamma_initializer: initializerOf(ones),
  beta_initializer: initializerOf(zeros),
  gamma_regularizer: notSupported,
  beta_regularizer: notSupported,
  supports_masking: z.boolean().optional(),
});
function layerNormalizationGeometry(
  config: z.output<typeof layerNormalizationSchema>,
  shape: readonly number[],
): LayerGeometry {
  const width = shape.at(-1) ?? 1;
  const weight = (name: string, initializer: Initializer): Weight => ({
    name,
    shape: [width],
    initializer,
    fanIn: width,
    fanOut: width,
  });
  const weights = [
    ...(config.scale ? [weight("gamma", config.gamma_initializer)] : []),
    ...(config.center ? [weight("beta", config.beta_initializer)] : []),
  ];
  return { outputShape: shape, weights, multiplyAdds: 4 * sizeOf(shape) };
}

const kind = <Schema extends z.ZodType>(
  schema: Schema,
  geometry: (config: z.output<Schema>, inputShape: readonly number[]) => LayerGeometry,
) => ({ schema, geometry });

/** Every layer that may stand in a model, by its TF.js class name. Nothing else is ever constructed. */
export const layerKinds = {
  Dense: kind(denseSchema, denseGeometry),
  Conv2D: kind(conv2dSchema, conv2dGeometry),
  DepthwiseConv2D: kind(depthwiseSchema, depthwiseGeometry),
  MaxPooling2D: kind(poolSchema, poolGeometry),
  AveragePooling2D: kind(poolSchema, poolGeometry),
  GlobalAveragePooling2D: kind(globalPoolSchema, globalPoolGeometry),
  GlobalMaxPooling2D: kind(globalPoolSchema, globalPoolGeometry),
  Flatten: kind(flattenSchema, flattenGeometry),
  Reshape: kind(reshapeSchema, reshapeGeometry),
  Activation: kind(activationLayerSchema, pointwise),
  ReLU: kind(reluSchema, pointwise),
  LeakyReLU: kind(leakyReluSchema, pointwise),
  Softmax: kind(softmaxSchema, pointwise),
  LayerNormalization: kind(layerNormalizationSchema, layerNormalizationGeometry),
} as const;

export type LayerKind = keyof typeof layerKinds;
export const isLayerKind = (name: string): name is LayerKind => Object.hasOwn(layerKinds, name);

/** Why well-known layers are not in the table. */
export const refusedKinds: Readonly<Record<string, string>> = {
  BatchNormalization: "its running averages would drift apart between ranks; use LayerNormalization",
  Dropout: "its random mask would not survive a resume bit for bit",
  Lambda: "it evaluates code of whoever wrote the model",
};

/** A layer of a model, checked, with its shapes. */
export type Layer = {
  [Kind in LayerKind]: LayerGeometry & {
    readonly kind: Kind;
    readonly name: string;
    readonly inputShape: readonly number[];
    readonly config: z.output<(typeof layerKinds)[Kind]["schema"]>;
  };
}[LayerKind];
