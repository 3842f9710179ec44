import { z } from "zod";
import { parametersSchema } from "../search.ts";

/** A sweep as the HTTP API shows it. */

export const sweepIdSchema = z.string().regex(/^sweep-[0-9]{1,12}$/);
export const sweepStateSchema = z.enum(["running", "succeeded", "failed", "cancelled"]);

/**
 * waiting: for a free agent, to begin or to go on. paused: has what its rung gives, while others of the rung train. stopped:
 * others were better.
 */
export const trialStateSchema = z.enum([
  "waiting",
  "running",
  "paused",
  "stopped",
  "succeeded",
  "failed",
  "cancelled",
]);

const trialViewSchema = z.object({
  number: z.number().int().positive(),
  parameters: parametersSchema,
  state: trialStateSchema,
  /** From 0. */
  rung: z.number().int(),
  jobId: z.string().nullable(),
  step: z.number().int(),
  totalSteps: z.number().int().nullable(),
  /** The newest value of the metric; null before the first, and where it is not finite. */
  value: z.number().nullable(),
  /** `name@N` once registered. */
  version: z.string().nullable(),
  /** Why it is in this state, for a person. */
  reason: z.string(),
});
export type TrialView = z.infer<typeof trialViewSchema>;

/** What stands in the view of the cluster. */
export const sweepSummarySchema = z.object({
  id: sweepIdSchema,
  name: z.string(),
  /** The registered configuration that it was submitted with; null of one of an earlier release. */
  config: z.string().nullable().default(null),
  method: z.string(),
  metric: z.string(),
  state: sweepStateSchema,
  reason: z.string(),
  submittedAtMs: z.number(),
  startedAtMs: z.number().nullable(),
  endedAtMs: z.number().nullable(),
  trialCount: z.number().int(),
  runningCount: z.number().int(),
  /** Trials of which nothing more is expected. */
  overCount: z.number().int(),
  /** Over all trials; `epochsPlanned` shrinks when trials end early. */
  epochsDone: z.number(),
  epochsPlanned: z.number(),
  best: z.object({ number: z.number().int(), value: z.number(), jobId: z.string().nullable() }).nullable(),
  /** Of the best trial, registered under the sweep's name at its end. */
  version: z.string().nullable(),
});
export type SweepSummary = z.infer<typeof sweepSummarySchema>;

export const sweepViewSchema = sweepSummarySchema.extend({
  /** Epochs and trials of each rung; one rung where nothing is halved. */
  rungs: z.array(z.object({ epochs: z.number(), trials: z.number().int() })),
  trials: z.array(trialViewSchema),
});
export type SweepView = z.infer<typeof sweepViewSchema>;
