import { z } from "zod";
import { nameSchema } from "./ids.ts";

/** What an example of a data set is: all that a model has to know of the data, and nothing of where it comes from. */

const size = z.number().int().positive();

/**
 * A part of an example. An example is one flat f32 row, its parts one after the other in this order; a model with several
 * inputs takes them by name. Categories and tokens are whole numbers from 0, exact in f32 up to 2^24.
 */
export const featureSchema = z.strictObject({
  name: nameSchema,
  /** Of one example; a single number is []. */
  shape: z.array(size).max(7),
  kind: z.enum(["number", "category"]),
  /** Of a category: how many there are. */
  cardinality: size.max(2 ** 24).optional(),
});

/** What is to be predicted, which decides the loss. A negative class counts nowhere: padding, or a label that is unknown. */
const targetSchema = z.discriminatedUnion("kind", [
  /** One of several classes; softmax and cross-entropy. */
  z.strictObject({ kind: z.literal("class"), classCount: size }),
  /** One class at each place of a sequence; the same. */
  z.strictObject({ kind: z.literal("tokens"), length: size, classCount: size }),
  /** 0 or 1; sigmoid and cross-entropy. */
  z.strictObject({ kind: z.literal("binary") }),
  /** Squared error. */
  z.strictObject({ kind: z.literal("number") }),
]);
export type Target = z.infer<typeof targetSchema>;

export const exampleShapeSchema = z.strictObject({
  /** Without the batch dimension: of the only part, or [length of the row]. */
  inputShape: z.array(size).min(1).max(8).readonly(),
  /** Left out where an example is a single part of numbers. */
  features: z.array(featureSchema).min(1).max(1_024).optional(),
  target: targetSchema,
});
export type Feature = z.infer<typeof featureSchema>;
export type ExampleShape = z.infer<typeof exampleShapeSchema>;

/** Numbers in the target of one example. */
export const targetLength = (target: Target): number => (target.kind === "tokens" ? target.length : 1);
