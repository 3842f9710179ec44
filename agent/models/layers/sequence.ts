import { z } from "zod";
import {
  commonConfig,
  dataFormatSchema,
  type Initializer,
  initializerOf,
  notSupported,
  widthSchema,
} from "./config.ts";
import { type LayerGeometry, noWeights, ShapeMismatch, sizeOf } from "./geometry.ts";

/** Layers over rows of tokens or categories. */

const smallUniform: Initializer = { kind: "uniform", min: -0.05, max: 0.05 };

/** Whole numbers from 0 become rows of a table. With `mask_zero` a 0 is padding, which later layers pass over. */
export const embeddingSchema = z.strictObject({
  ...commonConfig,
  input_dim: z
    .number()
    .int()
    .positive()
    .max(2 ** 24),
  output_dim: widthSchema,
  input_length: z.unknown().optional(),
  mask_zero: z
    .boolean()
    .nullish()
    .transform((given) => given ?? false),
  embeddings_initializer: initializerOf(smallUniform),
  embeddings_regularizer: notSupported,
  embeddings_constraint: notSupported,
});
export function embeddingGeometry(
  config: z.output<typeof embeddingSchema>,
  shape: readonly number[],
): LayerGeometry {
  const { input_dim, output_dim, embeddings_initializer } = config;
  return {
    outputShape: [...shape, output_dim],
    weights: [
      {
        name: "embeddings",
        shape: [input_dim, output_dim],
        initializer: embeddings_initializer,
        fanIn: input_dim,
        fanOut: output_dim,
      },
    ],
    multiplyAdds: sizeOf(shape) * output_dim,
  };
}

/** The mean over the places of a sequence, padding left out. */
export const sequenceAverageSchema = z.strictObject({ ...commonConfig, data_format: dataFormatSchema });
export function sequenceAverageGeometry(_config: unknown, shape: readonly number[]): LayerGeometry {
  const [, width] = shape;
  if (shape.length !== 2)
    throw new ShapeMismatch(`needs [places, width], but [${shape.join(", ")}] comes in`);
  return noWeights([width!], sizeOf(shape));
}
