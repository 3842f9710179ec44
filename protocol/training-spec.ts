import { z } from "zod";
import { metricSchema } from "./metric.ts";

/** How a job learns: the optimizer, the schedule of its learning rate, and how it looks at the held-out set on its way. */

const unitInterval = z.number().min(0).lt(1);
const learningRate = z.number().positive().max(100);
const epsilon = z.number().positive();
const weightDecay = z.number().min(0).max(1);

const sgdSchema = z.strictObject({
  kind: z.literal("sgd"),
  learningRate: learningRate.default(0.01),
  momentum: unitInterval.default(0),
  /** Looks ahead along the momentum; without momentum it changes nothing. */
  nesterov: z.boolean().optional(),
  /** Added to the gradient, as L2 regularisation is. */
  weightDecay: weightDecay.optional(),
});
const moments = { beta1: unitInterval.default(0.9), beta2: unitInterval.default(0.999) };
const adamSchema = z.strictObject({
  kind: z.literal("adam"),
  learningRate: learningRate.default(0.001),
  ...moments,
  epsilon: epsilon.default(1e-7),
});
const adamwSchema = z.strictObject({
  kind: z.literal("adamw"),
  learningRate: learningRate.default(0.001),
  ...moments,
  epsilon: epsilon.default(1e-8),
  /** Decoupled: takes this share, times the learning rate, off the weights themselves. */
  weightDecay: weightDecay.default(0.01),
});
const rmspropSchema = z.strictObject({
  kind: z.literal("rmsprop"),
  learningRate: learningRate.default(0.001),
  /** Of the mean of squared gradients. */
  decay: unitInterval.default(0.9),
  momentum: unitInterval.default(0),
  epsilon: epsilon.default(1e-7),
});
export const optimizerSpecSchema = z.discriminatedUnion("kind", [
  sgdSchema,
  adamSchema,
  adamwSchema,
  rmspropSchema,
]);
export type OptimizerSpec = z.infer<typeof optimizerSpecSchema>;

const warmupSteps = z.number().int().min(0);
const finalFraction = z.number().min(0).max(1).default(0);
export const scheduleSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("constant"), warmupSteps: warmupSteps.optional() }),
  z.strictObject({ kind: z.literal("cosine"), warmupSteps: warmupSteps.default(0), finalFraction }),
  z.strictObject({ kind: z.literal("linear"), warmupSteps: warmupSteps.default(0), finalFraction }),
  z.strictObject({
    kind: z.literal("step"),
    warmupSteps: warmupSteps.optional(),
    everySteps: z.number().int().positive(),
    factor: z.number().positive().max(1),
  }),
]);
export type ScheduleSpec = z.infer<typeof scheduleSchema>;

export const evaluationSpecSchema = z
  .strictObject({
    everySteps: z.number().int().positive().optional(),
    everyEpochs: z.number().positive().optional(),
    /** Ends the job after so many evaluations without a better one. */
    patience: z.number().int().positive().optional(),
    metric: metricSchema.default("loss"),
    /** A smaller gain is none. */
    minDelta: z.number().min(0).default(0),
  })
  .refine(({ everySteps, everyEpochs }) => (everySteps === undefined) !== (everyEpochs === undefined), {
    message: "say either everySteps or everyEpochs",
  });
export type EvaluationSpec = z.infer<typeof evaluationSpecSchema>;
