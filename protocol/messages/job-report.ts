import { z } from "zod";
import { digestSchema, peerIdSchema } from "../ids.ts";
import { limits } from "../limits.ts";
import type { Conversation } from "../ports.ts";
import { envelopeSchema } from "./attestation.ts";
import { control, jobIdSchema, type Ok, trainingPointSchema } from "./job.ts";
import { metricsSchema, modelDescriptionSchema, tablesSchema } from "./model.ts";

/** What agents tell the coordinator of a job. */

/** Share of the targets that were predicted right, 0-1; null where the target is a number. */
const accuracySchema = z.number().nullable();
export const lossPointSchema = z.object({
  step: z.number().int().nonnegative(),
  loss: z.number(),
  accuracy: accuracySchema,
});
export type LossPoint = z.infer<typeof lossPointSchema>;

export const progressSchema = z.object({
  step: z.number().int().nonnegative(),
  totalSteps: z.number().int().nonnegative(),
  epoch: z.number().nonnegative(),
  /** Mean over all ranks of the last step. */
  loss: z.number(),
  accuracy: accuracySchema,
  samplesPerSecond: z.number().nonnegative(),
  /** Mean time of a step in which this rank only waits for the ring, and so for slower ranks. */
  communicationMs: z.number().nonnegative(),
  /** Mean time of a step in which the ring is at work while this rank computes. */
  hiddenCommunicationMs: z.number().nonnegative(),
  /** Share of the step time that `communicationMs` is, 0-1. */
  communicationShare: z.number().min(0).max(1),
  /** What this rank's ring has sent since the generation began, counted at its socket. */
  sentBytes: z.number().nonnegative(),
  worldSize: z.number().int().positive(),
  /** A rank that sends nothing for this long counts as stalled; from the measured time of a step. */
  stallBoundMs: z.number().positive(),
  /** Updates left out because a number was not finite (`nonFinite: skip`), since this rank's trainer started. */
  skippedSteps: z.number().int().nonnegative(),
  /** What each rank takes of a batch, in per mille, where they do not take even parts. */
  batchShares: z.array(z.number().int().nonnegative()).max(limits.worldSizeMax).optional(),
  points: z.array(lossPointSchema).max(1_000),
});
export type Progress = z.infer<typeof progressSchema>;

export const evaluationSchema = z.object({
  examples: z.number().int().nonnegative(),
  loss: z.number(),
  accuracy: z.number().min(0).max(1).nullable(),
  metrics: metricsSchema.default({}),
  ...tablesSchema.shape,
});
export type Evaluation = z.infer<typeof evaluationSchema>;

/** Tables are for a version; what is kept and listed of each evaluation is numbers. */
export function withoutTables({ classes: _, confusion: __, ...numbers }: Evaluation): Evaluation {
  return numbers;
}

/** Memory, in bytes, by which it is told into how many stages a model is to be cut. */
export const stageSizesSchema = z.object({
  /** That a trainer may use here. */
  memoryBytes: z.number().nonnegative(),
  /** As the model and the job allow. */
  stagesMax: z.number().int().positive(),
  /**
   * For 1, 2, 3 ... stages what each of them would take here, up to the first number at which all fit: beyond it they do, too.
   * Null: more than its engine can hold, whatever memory there is.
   */
  stageBytes: z
    .array(z.array(z.number().nonnegative().nullable()).max(limits.stagesMax))
    .max(limits.stagesMax),
});
export type StageSizes = z.infer<typeof stageSizesSchema>;

/** A checkpoint on an agent's disk. Those of one generation and step are parts of one state. */
export const heldCheckpointSchema = z.object({
  /** In which it was written. */
  generation: z.number().int().positive(),
  /** Of a job with stages: of which one. */
  stage: z.number().int().nonnegative().nullable(),
  point: trainingPointSchema,
  artefact: digestSchema,
});
export type HeldCheckpoint = z.infer<typeof heldCheckpointSchema>;
/** All that an agent has of one job, its neighbours' copies too, the newest first. */
const heldSchema = z.array(heldCheckpointSchema).max(limits.heldCheckpointsMax);

const reportBase = { jobId: jobIdSchema };
export const jobReportSchema = z.discriminatedUnion("kind", [
  /** The trainer is up and can take a plan. */
  z.object({
    kind: z.literal("ready"),
    ...reportBase,
    host: z.string().max(255),
    port: z.number().int(),
    /** Where it gives its state to ranks that heal. */
    statePort: z.number().int(),
    point: trainingPointSchema,
    dataDigest: digestSchema,
    engine: z.string().max(64),
    model: modelDescriptionSchema,
    stage: z.number().int().nonnegative().optional(),
    totalSteps: z.number().int().nonnegative(),
    /** By whose plan its state came to be, where that is not the newest checkpoint on this disk. */
    pointOf: z.number().int().positive().optional(),
    held: heldSchema.optional(),
  }),
  /** What lies on an agent's disk, whether it works for that job or not: told when it comes, and when the coordinator does. */
  z.object({ kind: z.literal("held"), ...reportBase, held: heldSchema }),
  /** Of a job with `stages: auto`: what each stage would take here. */
  z.object({ kind: z.literal("sized"), ...reportBase, sizes: stageSizesSchema }),
  /** A step waits for data that come from peers; with 1 all of them are there. Lossy. */
  z.object({ kind: z.literal("loading"), ...reportBase, share: z.number().min(0).max(1) }),
  /** Links stand and the state is there, after healing if need be: this rank contributes from its next step on. */
  z.object({
    kind: z.literal("started"),
    ...reportBase,
    generation: z.number().int(),
    healedBytes: z.number().nonnegative(),
    healMs: z.number().nonnegative(),
  }),
  /** Rank 0 only, a few times a second; lossy. */
  z.object({
    kind: z.literal("progress"),
    ...reportBase,
    generation: z.number().int(),
    progress: progressSchema,
  }),
  /** Every rank; `artefact` is the digest of the durable checkpoint on that rank. */
  z.object({
    kind: z.literal("checkpoint"),
    ...reportBase,
    generation: z.number().int(),
    point: trainingPointSchema,
    artefact: digestSchema,
    held: heldSchema.optional(),
  }),
  /** Every rank, once the next step is applied; the held-out set with the state after `step` steps. */
  z.object({
    kind: z.literal("evaluated"),
    ...reportBase,
    generation: z.number().int(),
    step: z.number().int().nonnegative(),
    evaluation: evaluationSchema,
  }),
  /** The first step after a re-formed ring was applied on this rank. */
  z.object({
    kind: z.literal("resumed"),
    ...reportBase,
    generation: z.number().int(),
    step: z.number().int(),
  }),
  /** The first of some updates in a row that all ranks leave out, as a number was not finite; told by one rank. */
  z.object({
    kind: z.literal("skipped"),
    ...reportBase,
    generation: z.number().int(),
    step: z.number().int(),
    message: z.string().max(2_000),
  }),
  /** The generation ended here: broken by a neighbour, or quiesced at a boundary. */
  z.object({
    kind: z.literal("ended"),
    ...reportBase,
    generation: z.number().int(),
    cause: z.enum(["broken", "quiesced"]),
    /** Usual time of a step on this ring; null before the first. Who does not answer for several of them has stalled. */
    stepMs: z.number().nonnegative().nullable(),
    point: trainingPointSchema,
    /** The neighbour that is to blame, where one is known. */
    suspect: peerIdSchema.nullable(),
    /** Of the error that has broken it; none of an earlier release. */
    code: z.string().max(64).optional(),
    detail: z.string().max(2_000),
    /** Code of what ended it, where that is this rank's own and no peer's: in the next ring it would come again. */
    fault: z.string().max(64).optional(),
    /** The checkpoint that this rank was to begin from, where nobody in reach has it. */
    missing: digestSchema.optional(),
    held: heldSchema.optional(),
    /** The held-out set, where the job has reached its bound; its checkpoint has been reported. */
    evaluation: evaluationSchema.optional(),
  }),
  /** All steps done, evaluated, weights durable in this agent's artefact store. */
  z.object({
    kind: z.literal("finished"),
    ...reportBase,
    generation: z.number().int(),
    point: trainingPointSchema,
    weights: digestSchema,
    weightsBytes: z.number().nonnegative(),
    evaluation: evaluationSchema,
    /** Before all steps were done, as evaluations became no better. */
    stoppedEarly: z.boolean().optional(),
    /** `point`, `weights` and `evaluation` are of an earlier state than the last, as the held-out set found it better. */
    isBest: z.boolean().optional(),
    /** Its agent's signature under all of this; none of an earlier release. */
    attestation: envelopeSchema.optional(),
  }),
  /** This trainer cannot go on by itself. */
  z.object({
    kind: z.literal("failed"),
    ...reportBase,
    code: z.string().max(64),
    message: z.string().max(2_000),
    /** true: the job itself is wrong (data, NaN); false: only this agent failed. */
    fatal: z.boolean(),
    /** Whose fault it is, where that is another one than who reports it. */
    suspect: peerIdSchema.optional(),
  }),
]);
export type JobReport = z.infer<typeof jobReportSchema>;

/** Reports of one life of an agent are numbered, so that a repeated one is known as such. */
const reportOriginSchema = z.object({
  /** The agent's incarnation. */
  life: z.string().max(64),
  sequence: z.number().int().nonnegative(),
});
export type ReportOrigin = z.infer<typeof reportOriginSchema>;

export const reportJob: Conversation<{ report: JobReport; origin: ReportOrigin }, Ok> = control(
  "report",
  z.object({ report: jobReportSchema, origin: reportOriginSchema }),
);
