import { z } from "zod";
import { digestSchema, peerIdSchema } from "../ids.ts";
import { algorithmSchema, jobSpecSchema } from "../job-spec.ts";
import { limits } from "../limits.ts";
import type { Conversation } from "../ports.ts";
import { windowMax } from "../segment-flow.ts";

/** What the coordinator tells agents of a job. */

export const jobIdSchema = z.string().regex(/^job-[0-9]{1,12}$/);

/** Where a rank's training stands. `step` counts completed steps: 0 is the untouched initial state. */
export const trainingPointSchema = z.object({ step: z.number().int().nonnegative(), hash: digestSchema });
export type TrainingPoint = z.infer<typeof trainingPointSchema>;

export const rankSchema = z.object({
  rank: z.number().int().nonnegative(),
  peerId: peerIdSchema,
  /** Where this rank's data plane listens: its downstream neighbour dials it. */
  host: z.string().max(255),
  port: z.number().int().min(1).max(65_535),
  /** Where it gives its state away; another port where a thread of its own does. */
  statePort: z.number().int().min(1).max(65_535),
  /** It begins without the state of the plan's start: contributes nothing until it has it from those that do. */
  heals: z.boolean(),
});
export type Rank = z.infer<typeof rankSchema>;

/** Where one stage of a model begins a generation. */
const stageStartSchema = z.object({
  /** Of the state of this stage, at the step at which all stages begin. */
  hash: digestSchema,
  /** Who does not stand there reads this checkpoint, where no rank of this stage does; null: a rank, or nothing at step 0. */
  checkpoint: digestSchema.nullable(),
});

/** A generation: a numbered, immutable plan of a job. It changes only when membership changes. */
export const generationPlanSchema = z.object({
  jobId: jobIdSchema,
  generation: z.number().int().positive(),
  /** In ring order: rank r receives from rank r-1 and sends to rank r+1, modulo world size. */
  ranks: z.array(rankSchema).min(1).max(limits.worldSizeMax),
  /** Those that do not heal start from this point, */
  start: trainingPointSchema,
  /** and this is one of them. It also tells how the job goes. */
  source: peerIdSchema,
  /** Nobody has lived through the generation before: those that heal do so before the first step, so that all take part in it. */
  healsFirst: z.boolean().optional(),
  /** No rank stands at the start: all read this checkpoint, from the disk of an agent that need be no rank. */
  checkpoint: digestSchema.optional(),
  /**
   * Of a model that is trained by stages, one entry a stage. Ranks lie by stage: with R of each, rank s·R + r is replica r of
   * stage s. Those of a stage sum their gradients; those of a replica pass activations on.
   */
  stages: z.array(stageStartSchema).min(2).max(limits.stagesMax).optional(),
  transport: z.enum(["encrypted", "plaintext"]),
  /** How this generation sums. */
  algorithm: algorithmSchema.default("ring"),
  /** Segments that each rank may have under way, for the latency of these links; absent where the transport's own do. */
  window: z.number().int().min(2).max(windowMax(limits.segmentBytes)).optional(),
  /** Of one step, its share of a round's exchange, from the measured links; null where they are not known. */
  predictedCommunicationMs: z.number().nonnegative().nullable(),
  reason: z.string().max(2_000),
});
export type GenerationPlan = z.infer<typeof generationPlanSchema>;

const termed = { term: z.number().int().nonnegative(), jobId: jobIdSchema };
const okSchema = z.object({ ok: z.literal(true) });
export type Ok = z.infer<typeof okSchema>;

/** A conversation about a job, answered with no more than that it was taken. */
export const control = <Request>(
  name: string,
  request: z.ZodType<Request>,
  timeoutMs: number = limits.requestTimeoutMs,
): Conversation<Request, Ok> => ({
  protocol: `/ringfold/job/${name}/1`,
  request,
  response: okSchema,
  requestBytesMax: limits.controlMessageBytes,
  responseBytesMax: 4_096,
  timeoutMs,
});

/** A checkpoint, and who has it. */
const prepareStateSchema = z.object({
  digest: digestSchema,
  step: z.number().int().nonnegative(),
  holders: z.array(peerIdSchema).max(limits.worldSizeMax),
});
export type PrepareState = z.infer<typeof prepareStateSchema>;

const prepareSchema = z.object({
  ...termed,
  spec: jobSpecSchema,
  /** Weights that it begins with. */
  base: digestSchema.optional(),
  /** Epochs at which it pauses by itself. */
  bound: z.number().positive().optional(),
  /** Which part of the model it trains, where several share it. */
  stage: z.number().int().nonnegative().optional(),
  /** Where it goes on, unless this agent is as far. */
  state: prepareStateSchema.optional(),
  /** The newest one of the job: what runs there of an older one is over. */
  generation: z.number().int().positive().optional(),
});
export type PrepareRequest = z.infer<typeof prepareSchema>;

/** Starts the trainer: process, engine, data, data-plane socket. Idempotent; readiness comes back as a report. */
export const prepareJob = control("prepare", prepareSchema);
/** Starts a generation on a prepared trainer. */
export const startGeneration = control(
  "start",
  z.object({ term: z.number().int().nonnegative(), plan: generationPlanSchema }),
);
/** Asks the running generation to end at the next step boundary, the same one on each rank. */
export const quiesceJob = control(
  "quiesce",
  z.object({
    ...termed,
    generation: z.number().int().positive(),
    /** Also writes a checkpoint there, and reports it: the job is about to be paused. */
    checkpoint: z.boolean().optional(),
  }),
);
/** Ends the trainer of this job. */
export const stopJob = control("stop", z.object({ ...termed, reason: z.string().max(2_000) }));
