import { z } from "zod";
import { attentionGeometry, attentionSchema, positionGeometry, positionSchema } from "./attention.ts";
import { activationSchema, commonConfig, dataFormatSchema, widthSchema } from "./config.ts";
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
} from "./geometry.ts";
import {
  addGeometry,
  concatenateGeometry,
  concatenateSchema,
  dotGeometry,
  dotSchema,
  mergeSchema,
  subtractGeometry,
} from "./merge.ts";
import {
  batchNormalizationGeometry,
  batchNormalizationSchema,
  dropoutSchema,
  layerNormalizationGeometry,
  layerNormalizationSchema,
} from "./normalization.ts";
import {
  bidirectionalGeometry,
  bidirectionalSchema,
  gruGeometry,
  gruSchema,
  lstmGeometry,
  lstmSchema,
} from "./recurrent.ts";
import { upSamplingGeometry, upSamplingSchema, zeroPaddingGeometry, zeroPaddingSchema } from "./resize.ts";
import {
  embeddingGeometry,
  embeddingSchema,
  sequenceAverageGeometry,
  sequenceAverageSchema,
} from "./sequence.ts";
import {
  conv1dGeometry,
  conv1dSchema,
  globalPool1dGeometry,
  globalPool1dSchema,
  pool1dGeometry,
  pool1dSchema,
} from "./sequence-window.ts";
import {
  conv2dGeometry,
  conv2dSchema,
  depthwiseGeometry,
  depthwiseSchema,
  poolGeometry,
  poolSchema,
  separableGeometry,
  separableSchema,
} from "./window.ts";

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
const eluSchema = z.strictObject({ ...commonConfig, alpha: z.literal(1).default(1) });
/** Along the last axis only, as everything downstream reads class probabilities there. */
const softmaxSchema = z.strictObject({ ...commonConfig, axis: z.literal(-1).default(-1) });

const one = <Schema extends z.ZodType>(
  schema: Schema,
  geometry: (config: z.output<Schema>, inputShape: readonly number[]) => LayerGeometry,
) => ({
  schema,
  geometry: (config: z.output<Schema>, shapes: readonly (readonly number[])[]): LayerGeometry => {
    if (shapes.length !== 1) throw new ShapeMismatch(`takes one input, but has ${shapes.length}`);
    return geometry(config, shapes[0]!);
  },
});
const many = <Schema extends z.ZodType>(
  schema: Schema,
  geometry: (config: z.output<Schema>, shapes: readonly (readonly number[])[]) => LayerGeometry,
) => ({ schema, geometry });

/** Every layer that may stand in a model, by its TF.js class name. Nothing else is ever constructed. */
export const layerKinds = {
  Dense: one(denseSchema, denseGeometry),
  Conv1D: one(conv1dSchema, conv1dGeometry),
  Conv2D: one(conv2dSchema, conv2dGeometry),
  DepthwiseConv2D: one(depthwiseSchema, depthwiseGeometry),
  SeparableConv2D: one(separableSchema, separableGeometry),
  ZeroPadding2D: one(zeroPaddingSchema, zeroPaddingGeometry),
  UpSampling2D: one(upSamplingSchema, upSamplingGeometry),
  MaxPooling1D: one(pool1dSchema, pool1dGeometry),
  AveragePooling1D: one(pool1dSchema, pool1dGeometry),
  GlobalMaxPooling1D: one(globalPool1dSchema, globalPool1dGeometry),
  MaxPooling2D: one(poolSchema, poolGeometry),
  AveragePooling2D: one(poolSchema, poolGeometry),
  GlobalAveragePooling2D: one(globalPoolSchema, globalPoolGeometry),
  GlobalMaxPooling2D: one(globalPoolSchema, globalPoolGeometry),
  Flatten: one(flattenSchema, flattenGeometry),
  Reshape: one(reshapeSchema, reshapeGeometry),
  Activation: one(activationLayerSchema, pointwise),
  ReLU: one(reluSchema, pointwise),
  LeakyReLU: one(leakyReluSchema, pointwise),
  ELU: one(eluSchema, pointwise),
  Softmax: one(softmaxSchema, pointwise),
  LayerNormalization: one(layerNormalizationSchema, layerNormalizationGeometry),
  BatchNormalization: one(batchNormalizationSchema, batchNormalizationGeometry),
  Dropout: one(dropoutSchema, pointwise),
  PositionEmbedding: one(positionSchema, positionGeometry),
  MultiHeadAttention: many(attentionSchema, attentionGeometry),
  LSTM: one(lstmSchema, lstmGeometry),
  GRU: one(gruSchema, gruGeometry),
  Bidirectional: one(bidirectionalSchema, bidirectionalGeometry),
  GlobalAveragePooling1D: one(sequenceAverageSchema, sequenceAverageGeometry),
  Embedding: one(embeddingSchema, embeddingGeometry),
  Add: many(mergeSchema, addGeometry),
  Subtract: many(mergeSchema, subtractGeometry),
  Multiply: many(mergeSchema, addGeometry),
  Average: many(mergeSchema, addGeometry),
  Maximum: many(mergeSchema, addGeometry),
  Minimum: many(mergeSchema, addGeometry),
  Concatenate: many(concatenateSchema, concatenateGeometry),
  Dot: many(dotSchema, dotGeometry),
} as const;

export type LayerKind = keyof typeof layerKinds;
export const isLayerKind = (name: string): name is LayerKind => Object.hasOwn(layerKinds, name);

/** Why well-known layers are not in the table. */
export const refusedKinds: Readonly<Record<string, string>> = {
  Lambda: "it evaluates code of whoever wrote the model",
};

/** Where a layer stands among the others. */
interface LayerPlace {
  /** What comes in, in order: places of layers before this one, or -1 - i for the i-th input of the model. */
  readonly sources: readonly number[];
  readonly inputShapes: readonly (readonly number[])[];
  /** For each input the layers, all embeddings, that say which of its places are padding. */
  readonly inputMasks: readonly (readonly number[])[];
  /** Hides what comes later: attention only. */
  readonly causal: boolean;
}

/** A layer of a model, checked, with its shapes. */
export type Layer = {
  [Kind in LayerKind]: LayerGeometry &
    LayerPlace & {
      readonly kind: Kind;
      readonly name: string;
      readonly config: z.output<(typeof layerKinds)[Kind]["schema"]>;
    };
}[LayerKind];
