import { z } from "zod";
import { latencyHistogramSchema } from "../latency-histogram.ts";

/** Answers of a deployment: what a rollout is judged by. */
export const servedCountsSchema = z.object({
  /** Those that failed by their own fault among them; what the caller got wrong is not counted at all. */
  requests: z.number().int().nonnegative(),
  /** Failed ones by code. */
  errors: z
    .record(z.string().max(64), z.number().int().nonnegative())
    .refine((errors) => Object.keys(errors).length <= 64, "too many kinds of errors"),
  /** Of those that were answered. */
  latency: latencyHistogramSchema,
});
export type ServedCounts = z.infer<typeof servedCountsSchema>;

/** All that a gateway has answered by one deployment in this life of it: whoever missed some beats has missed nothing. */
export const servedSchema = servedCountsSchema.extend({ deployment: z.number().int().positive() });
export type Served = z.infer<typeof servedSchema>;
