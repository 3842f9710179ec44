import { z } from "zod";

/**
 * The parts that layer configurations of TF.js and Keras share. Objects are strict: a setting that we do not honour (a
 * regularizer, a frozen layer) is refused by name, as training without it would train something else.
 */

export const commonConfig = {
  name: z.string().min(1).max(128),
  trainable: z.literal(true).optional(),
  dtype: z.literal("float32").nullish(),
  batch_input_shape: z.array(z.number().int().positive().nullable()).max(9).nullish(),
  activity_regularizer: z.null().optional(),
} as const;

export const activationSchema = z.enum([
  "linear",
  "relu",
  "relu6",
  "elu",
  "selu",
  "gelu",
  "gelu_new",
  "sigmoid",
  "hard_sigmoid",
  "softplus",
  "softmax",
  "swish",
  "tanh",
]);
export type Activation = z.infer<typeof activationSchema>;

/** How a weight begins. `scaled` is VarianceScaling: its spread follows the sizes of the layer. */
export type Initializer =
  | { readonly kind: "constant"; readonly value: number }
  | { readonly kind: "uniform"; readonly min: number; readonly max: number }
  | {
      readonly kind: "normal";
      readonly mean: number;
      readonly deviation: number;
      readonly isTruncated: boolean;
    }
  /** Rows or columns, whichever are fewer, of length `gain` and at right angles to each other. */
  | { readonly kind: "orthogonal"; readonly gain: number }
  /** As many equal parts as there are values. */
  | { readonly kind: "segments"; readonly values: readonly number[] }
  | {
      readonly kind: "scaled";
      readonly scale: number;
      readonly mode: "fanIn" | "fanOut" | "fanAvg";
      readonly distribution: "uniform" | "normal";
    };

const constant = (value: number): Initializer => ({ kind: "constant", value });
const finite = z.number().min(-1e6).max(1e6);
/** Seeds inside a topology are read over: the seed of the job, and the place of the layer, decide. */
const seed = z.number().nullish();
const seeded = z.strictObject({ seed }).optional();

const scaled =
  (scale: number, mode: "fanIn" | "fanAvg", distribution: "uniform" | "normal") => (): Initializer => ({
    kind: "scaled",
    scale,
    mode,
    distribution,
  });
const named = <Name extends string>(name: Name, make: () => Initializer) =>
  z.strictObject({ class_name: z.literal(name), config: seeded }).transform(make);

const varianceScaling = z
  .strictObject({
    class_name: z.literal("VarianceScaling"),
    config: z.strictObject({
      scale: finite.positive().default(1),
      mode: z.enum(["fan_in", "fan_out", "fan_avg"]).default("fan_in"),
      distribution: z.enum(["uniform", "normal", "truncated_normal"]).default("normal"),
      seed,
    }),
  })
  .transform(({ config }): Initializer => {
    const modes = { fan_in: "fanIn", fan_out: "fanOut", fan_avg: "fanAvg" } as const;
    const distribution = config.distribution === "uniform" ? "uniform" : "normal";
    return { kind: "scaled", scale: config.scale, mode: modes[config.mode], distribution };
  });

const normalConfig = z.strictObject({ mean: finite.default(0), stddev: finite.min(0).default(0.05), seed });

const initializerSchema = z.union([
  named("Zeros", () => constant(0)),
  named("Ones", () => constant(1)),
  named("GlorotUniform", scaled(1, "fanAvg", "uniform")),
  named("GlorotNormal", scaled(1, "fanAvg", "normal")),
  named("HeUniform", scaled(2, "fanIn", "uniform")),
  named("HeNormal", scaled(2, "fanIn", "normal")),
  named("LeCunUniform", scaled(1, "fanIn", "uniform")),
  named("LeCunNormal", scaled(1, "fanIn", "normal")),
  varianceScaling,
  z
    .strictObject({
      class_name: z.literal("Orthogonal"),
      config: z.strictObject({ gain: finite.default(1), seed }).optional(),
    })
    .transform(({ config }): Initializer => ({ kind: "orthogonal", gain: config?.gain ?? 1 })),
  z
    .strictObject({ class_name: z.literal("Constant"), config: z.strictObject({ value: finite }) })
    .transform(({ config }) => constant(config.value)),
  z
    .strictObject({
      class_name: z.literal("RandomUniform"),
      config: z.strictObject({ minval: finite.default(-0.05), maxval: finite.default(0.05), seed }),
    })
    .transform(({ config }): Initializer => ({ kind: "uniform", min: config.minval, max: config.maxval })),
  z.strictObject({ class_name: z.enum(["RandomNormal", "TruncatedNormal"]), config: normalConfig }).transform(
    ({ class_name, config }): Initializer => ({
      kind: "normal",
      mean: config.mean,
      deviation: config.stddev,
      isTruncated: class_name === "TruncatedNormal",
    }),
  ),
]);

/** Settings of one weight (`kernel`, `bias`): its initializer; regularizers and constraints only as null. */
export const initializerOf = (fallback: Initializer) =>
  initializerSchema.nullish().transform((initializer) => initializer ?? fallback);
export const glorotUniform = scaled(1, "fanAvg", "uniform")();
export const zeros = constant(0);
export const ones = constant(1);
export const notSupported = z.null().optional();

const side = z.number().int().min(1).max(64);
/** A window, stride or dilation: one number for both sides, or [height, width]. */
export const sidesSchema = z
  .union([side, z.tuple([side, side]), z.tuple([side])])
  .transform((given): [number, number] =>
    typeof given === "number" ? [given, given] : [given[0], given[1] ?? given[0]],
  );
/** The same along a sequence: a number, or [length]. */
export const sideSchema = z
  .union([side, z.tuple([side])])
  .transform((given): number => (typeof given === "number" ? given : given[0]));

export const paddingSchema = z.enum(["valid", "same"]);
export const dataFormatSchema = z.enum(["channels_last", "channelsLast"]).nullish();
/** Units and filters: wide enough for any model that fits the parameter bound. */
export const widthSchema = z.number().int().positive().max(1_000_000);
