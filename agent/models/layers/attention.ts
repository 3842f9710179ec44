import { z } from "zod";
import { commonConfig, type Initializer, initializerOf, notSupported, widthSchema } from "./config.ts";
import {
  biasConfig,
  kernelConfig,
  type LayerGeometry,
  ShapeMismatch,
  sizeOf,
  type Weight,
} from "./geometry.ts";

/**
 * Scaled dot-product attention of several heads, with the weights of Keras' layer of this name. Inputs are the query, the
 * value and, where it is another one, the key. Padding in the value is passed over; `use_causal_mask` of the call hides what
 * comes later. Source: Vaswani et al., "Attention is all you need", 2017, section 3.2.2.
 */
export const attentionSchema = z.strictObject({
  ...commonConfig,
  ...kernelConfig,
  ...biasConfig,
  num_heads: z.number().int().positive().max(256),
  key_dim: widthSchema,
  value_dim: widthSchema.nullish(),
  dropout: z.literal(0, "use Dropout layers").default(0),
  output_shape: z.null().optional(),
  attention_axes: z.union([z.null(), z.tuple([z.literal(1)])]).optional(),
});

export function attentionGeometry(
  config: z.output<typeof attentionSchema>,
  shapes: readonly (readonly number[])[],
): LayerGeometry {
  const [query, value, key = value] = shapes;
  if (shapes.length > 3 || query?.length !== 2 || value?.length !== 2 || key?.length !== 2) {
    throw new ShapeMismatch("needs a query and a value, both [places, width]");
  }
  if (key[0] !== value[0]) throw new ShapeMismatch(`has ${key[0]} keys for ${value[0]} values`);
  const { num_heads, key_dim } = config;
  if ((config.value_dim ?? key_dim) !== key_dim)
    throw new ShapeMismatch("has a value_dim other than its key_dim");
  const inner = num_heads * key_dim;
  const [queryWidth, valueWidth, keyWidth] = [query[1]!, value[1]!, key[1]!];
  const projections = [
    ...projection("query", [queryWidth, num_heads, key_dim], config),
    ...projection("key", [keyWidth, num_heads, key_dim], config),
    ...projection("value", [valueWidth, num_heads, key_dim], config),
    ...projection("attention_output", [num_heads, key_dim, queryWidth], config),
  ];
  const [queries, keys] = [query[0]!, key[0]!];
  const dense = queries * 2 * queryWidth * inner + keys * (keyWidth + valueWidth) * inner;
  return { outputShape: query, weights: projections, multiplyAdds: dense + 2 * queries * keys * inner };
}

/** A dense layer to or from heads; of a kernel to heads the first length is the width that comes in, else the last goes out. */
function projection(
  name: string,
  shape: readonly [number, number, number],
  config: { kernel_initializer: Initializer; bias_initializer: Initializer; use_bias: boolean },
): Weight[] {
  const isOutput = name === "attention_output";
  const fanIn = isOutput ? shape[0] * shape[1] : shape[0];
  const fanOut = isOutput ? shape[2] : shape[1] * shape[2];
  const biasShape = isOutput ? [shape[2]] : [shape[1], shape[2]];
  const bias = { name: `${name}/bias`, shape: biasShape, initializer: config.bias_initializer };
  return [
    { name: `${name}/kernel`, shape, initializer: config.kernel_initializer, fanIn, fanOut },
    ...(config.use_bias ? [{ ...bias, fanIn: sizeOf(biasShape), fanOut: sizeOf(biasShape) }] : []),
  ];
}

/** A learned vector for each place, to be added to what stands there (KerasHub's layer of this name). */
export const positionSchema = z.strictObject({
  ...commonConfig,
  sequence_length: z.number().int().positive().max(65_536),
  initializer: initializerOf({ kind: "normal", mean: 0, deviation: 0.02, isTruncated: false }),
  embeddings_regularizer: notSupported,
});
export function positionGeometry(
  config: z.output<typeof positionSchema>,
  shape: readonly number[],
): LayerGeometry {
  const [places, width] = shape;
  if (shape.length !== 2)
    throw new ShapeMismatch(`needs [places, width], but [${shape.join(", ")}] comes in`);
  if (places! > config.sequence_length) {
    throw new ShapeMismatch(`has ${config.sequence_length} places, but ${places} come in`);
  }
  const weight = {
    name: "embeddings",
    shape: [config.sequence_length, width!],
    initializer: config.initializer,
  };
  return {
    outputShape: shape,
    weights: [{ ...weight, fanIn: width!, fanOut: width! }],
    multiplyAdds: sizeOf(shape),
  };
}
