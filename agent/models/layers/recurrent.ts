import { z } from "zod";
import {
  activationSchema,
  commonConfig,
  type Initializer,
  initializerOf,
  notSupported,
  widthSchema,
} from "./config.ts";
import {
  biasConfig,
  kernelConfig,
  type LayerGeometry,
  ShapeMismatch,
  sizeOf,
  type Weight,
} from "./geometry.ts";

/** Layers that go along a sequence and carry a state. What is padding (a mask) leaves the state as it is. */

const recurrentConfig = {
  ...commonConfig,
  ...kernelConfig,
  ...biasConfig,
  units: widthSchema,
  activation: activationSchema.nullish().transform((given) => given ?? "tanh"),
  /** hard_sigmoid is what TF.js and old releases of Keras take when a file does not say. */
  recurrent_activation: activationSchema.nullish().transform((given) => given ?? "hard_sigmoid"),
  recurrent_initializer: initializerOf({ kind: "orthogonal", gain: 1 }),
  recurrent_regularizer: notSupported,
  recurrent_constraint: notSupported,
  return_sequences: z.boolean().default(false),
  return_state: z.literal(false).optional(),
  go_backwards: z.boolean().default(false),
  stateful: z.literal(false).optional(),
  unroll: z.boolean().optional(),
  time_major: z.literal(false).optional(),
  dropout: z.literal(0, "use Dropout layers").optional(),
  recurrent_dropout: z.literal(0, "use Dropout layers").optional(),
  implementation: z.number().optional(),
} as const;

export const lstmSchema = z.strictObject({ ...recurrentConfig, unit_forget_bias: z.boolean().default(true) });
export function lstmGeometry(config: z.output<typeof lstmSchema>, shape: readonly number[]): LayerGeometry {
  const forgetful: Initializer = { kind: "segments", values: [0, 1, 0, 0] };
  const isDefault = config.bias_initializer.kind === "constant" && config.unit_forget_bias;
  return recurrentGeometry(config, shape, {
    gates: 4,
    biasShape: [4 * config.units],
    bias: isDefault ? forgetful : config.bias_initializer,
  });
}

/** `reset_after` as cuDNN has it, with a second bias; without as Cho et al. wrote it down. Absent in files of TF.js. */
export const gruSchema = z.strictObject({ ...recurrentConfig, reset_after: z.boolean().default(false) });
export function gruGeometry(config: z.output<typeof gruSchema>, shape: readonly number[]): LayerGeometry {
  const length = 3 * config.units;
  const biasShape = config.reset_after ? [2, length] : [length];
  return recurrentGeometry(config, shape, { gates: 3, biasShape, bias: config.bias_initializer });
}

function recurrentGeometry(
  config: z.output<typeof lstmSchema> | z.output<typeof gruSchema>,
  shape: readonly number[],
  cell: { readonly gates: number; readonly biasShape: readonly number[]; readonly bias: Initializer },
): LayerGeometry {
  const [places, width] = shape;
  if (shape.length !== 2)
    throw new ShapeMismatch(`needs [places, width], but [${shape.join(", ")}] comes in`);
  const { units } = config;
  const columns = cell.gates * units;
  const weight = (name: string, rows: number, initializer: Initializer): Weight => ({
    ...{ name, shape: [rows, columns], initializer, fanIn: rows, fanOut: columns },
  });
  const length = sizeOf(cell.biasShape);
  const bias = { name: "bias", shape: cell.biasShape, initializer: cell.bias, fanIn: length, fanOut: length };
  return {
    outputShape: config.return_sequences ? [places!, units] : [units],
    weights: [
      weight("kernel", width!, config.kernel_initializer),
      weight("recurrent_kernel", units, config.recurrent_initializer),
      ...(config.use_bias ? [bias] : []),
    ],
    multiplyAdds: places! * columns * (width! + units),
    // At each place the gates before and after their activations, the state, and what the state was made of.
    keptElements: places! * (2 * columns + 3 * units),
  };
}

const wrapped = z.discriminatedUnion("class_name", [
  z.object({ class_name: z.literal("LSTM"), config: lstmSchema }),
  z.object({ class_name: z.literal("GRU"), config: gruSchema }),
]);

/**
 * A recurrent layer and one like it that goes the other way, each with weights of its own.
 * Source: Schuster & Paliwal, "Bidirectional recurrent neural networks", 1997.
 */
export const bidirectionalSchema = z.strictObject({
  ...commonConfig,
  layer: wrapped,
  merge_mode: z
    .enum(["concat", "sum", "ave", "mul"], "one output: concat, sum, ave or mul")
    .nullish()
    .transform((given) => given ?? "concat"),
  backward_layer: z.null("it is the layer itself, backwards").optional(),
});
export function bidirectionalGeometry(
  { layer, merge_mode }: z.output<typeof bidirectionalSchema>,
  shape: readonly number[],
): LayerGeometry {
  const one =
    layer.class_name === "LSTM" ? lstmGeometry(layer.config, shape) : gruGeometry(layer.config, shape);
  const weights = directions.flatMap((direction) =>
    one.weights.map((weight) => ({ ...weight, name: `${direction}/${weight.name}` })),
  );
  const width = one.outputShape.at(-1)! * (merge_mode === "concat" ? 2 : 1);
  const keptElements = 2 * one.keptElements! + 2 * sizeOf(one.outputShape);
  return {
    ...{ outputShape: [...one.outputShape.slice(0, -1), width], weights, keptElements },
    multiplyAdds: 2 * one.multiplyAdds,
  };
}
export const directions = ["forward", "backward"] as const;
