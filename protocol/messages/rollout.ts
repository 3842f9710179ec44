import { z } from "zod";
import { aliasSchema, nameSchema } from "../ids.ts";

/** A version that takes over from the live one in steps: what operators ask for, and what they see. */

/** By how much the candidate may be worse than the live version. */
export const rolloutBoundsSchema = z.strictObject({
  /** Share of requests, 0-1, by which it may fail more often. */
  maxErrorRate: z.number().min(0).max(1).default(0.02),
  /** The 95th percentile of its answers' times over that of the live one, */
  maxLatencyRatio: z.number().min(1).max(100).default(1.5),
  /** or so much longer, where both are so short that the way to another machine counts. */
  latencySlackMs: z.number().min(0).max(60_000).default(10),
  /** To either side, in one step, before it is called as good. */
  minRequests: z.number().int().min(1).max(1_000_000).default(100),
});
export type RolloutBounds = z.output<typeof rolloutBoundsSchema>;

const isRising = (steps: readonly number[]) => steps.every((step, i) => i === 0 || step > steps[i - 1]!);

export const rolloutRequestSchema = z.strictObject({
  name: nameSchema,
  /** Its number, or an alias: then the one that it points to now. */
  version: z.union([z.number().int().positive(), aliasSchema]),
  /** Percent of the requests that go to it, step by step. After the last one it is promoted. */
  steps: z
    .array(z.number().int().min(1).max(100))
    .min(1)
    .max(32)
    .refine(isRising, "each step must be larger than the one before it")
    .default([5, 25, 50, 100]),
  /** How long each step is held at least. */
  holdSeconds: z.number().min(0).max(604_800).default(60),
  /** How long it may lack replicas before it is given up. */
  progressDeadlineSeconds: z.number().positive().max(604_800).default(600),
  bounds: rolloutBoundsSchema.prefault({}),
  /** As the live one has them unless told. */
  shards: z.number().int().positive().max(64).optional(),
  replicas: z.number().int().positive().max(64).optional(),
  /** Points to it from the moment in which it is promoted. */
  alias: aliasSchema.optional(),
});
export type RolloutRequest = z.input<typeof rolloutRequestSchema>;
/** The same with all defaults. */
export type RolloutWish = z.output<typeof rolloutRequestSchema>;

/**
 * `placing`: its replicas load; `progressing`: it gets the weight of a step; `paused`: it keeps that; `promoted`: it is live;
 * `rolled-back`: it was worse, or could not be placed; `aborted`: by an operator, or what is served was removed.
 */
export const rolloutStateSchema = z.enum([
  ...(["placing", "progressing", "paused", "promoted", "rolled-back", "aborted"] as const),
]);

/** One side of it, since its step began; since the step before where it gets nothing any more. */
const sideSchema = z.object({
  requests: z.number().int().nonnegative(),
  /** By code. */
  errors: z.record(z.string(), z.number().int().nonnegative()),
  /** 95th percentile, to 4.4%; null where nothing was answered. */
  p95Ms: z.number().nullable(),
});
export const rolloutEvidenceSchema = z.object({ candidate: sideSchema, live: sideSchema.nullable() });
export type RolloutEvidence = z.infer<typeof rolloutEvidenceSchema>;

export const rolloutViewSchema = z.object({
  name: nameSchema,
  /** Of all rollouts of the cluster. */
  number: z.number().int().positive(),
  version: z.number().int().positive(),
  /** The version that it takes over from. */
  fromVersion: z.number().int().positive(),
  /** Of the candidate; it stays the same when it becomes live. */
  deployment: z.number().int().positive(),
  state: rolloutStateSchema,
  /** Why it is there, or what it waits for. */
  reason: z.string(),
  steps: z.array(z.number().int()),
  /** Steps that have begun; 0 while it is being placed. */
  step: z.number().int().nonnegative(),
  /** Percent of the requests that go to the candidate. */
  weight: z.number().int().min(0).max(100),
  holdSeconds: z.number(),
  progressDeadlineSeconds: z.number(),
  bounds: z.object(rolloutBoundsSchema.shape),
  alias: aliasSchema.nullable(),
  /** What it is judged by now; of one that is over, what it was judged by last. */
  evidence: rolloutEvidenceSchema.nullable(),
  startedAtMs: z.number(),
  endedAtMs: z.number().nullable(),
});
export type RolloutView = z.infer<typeof rolloutViewSchema>;

export const rolloutOrderSchema = z.enum(["pause", "resume", "promote", "abort"]);
export type RolloutOrder = z.infer<typeof rolloutOrderSchema>;

export const rolloutPromotionSchema = z.strictObject({
  /** Makes it live at once; otherwise the next step begins, whatever the hold. */
  full: z.boolean().default(false),
  /** Why, for the event log. */
  reason: z.string().max(500).default(""),
});
