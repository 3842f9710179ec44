import { z } from "zod";
import { digestSchema, peerIdSchema } from "../../protocol/ids.ts";
import { jobSpecSchema, normalPriority, prioritySchema } from "../../protocol/job-spec.ts";
import {
  evaluationPointSchema,
  generationViewSchema,
  jobFailureSchema,
  jobStateSchema,
} from "../../protocol/messages/api.ts";
import { envelopeSchema } from "../../protocol/messages/attestation.ts";
import {
  generationPlanSchema,
  jobIdSchema,
  rankSchema,
  trainingPointSchema,
} from "../../protocol/messages/job.ts";
import {
  evaluationSchema,
  heldCheckpointSchema,
  stageSizesSchema,
} from "../../protocol/messages/job-report.ts";
import { modelDescriptionSchema } from "../../protocol/messages/model.ts";
import { sweepIdSchema } from "../../protocol/messages/sweep.ts";
import { failuresSchema } from "./job-failures.ts";

/** What the coordinator knows of a job; persisted whole with each decision. */

export const memberSchema = z.object({
  peerId: peerIdSchema,
  /** Of the agent's life that runs this trainer; another one means that the trainer is gone. */
  incarnation: z.string(),
  /**
   * preparing: the trainer starts. sized: it has said what it could hold of a model, and waits for its part. ready: idle, can take a plan. running: was given the current plan. ended: that
   * generation is over for it. finished: all steps done.
   */
  phase: z.enum(["preparing", "sized", "ready", "running", "ended", "finished"]),
  sinceMs: z.number(),
  host: z.string(),
  port: z.number(),
  statePort: z.number().default(0),
  point: trainingPointSchema.nullable(),
  /** By whose plan it came to this point; null where it was found on its disk, of whichever history. */
  pointOf: z.number().int().nullable().default(null),
  /** It was given the current plan without having its state, and has not said yet that it has healed. */
  healing: z.boolean().default(false),
  /** The neighbour that had sent it nothing for too long when it ended the current generation. */
  stalled: peerIdSchema.optional(),
  engine: z.string(),
  /** Which part of the model it trains, of a job with stages. */
  stage: z.number().int().nullable().default(null),
  /** With `stages: auto`: what each stage would take there. */
  sizes: stageSizesSchema.nullable().default(null),
});
export type Member = z.infer<typeof memberSchema>;

/** Plans of earlier releases say less: there a rank gave its state away where its data plane was. */
const storedRankSchema = z.preprocess((rank) => {
  const { port } = (rank ?? {}) as { readonly port?: unknown };
  return { statePort: port, heals: false, ...(rank as object) };
}, rankSchema);
const storedPlanSchema = generationPlanSchema.extend({
  ranks: z.array(storedRankSchema).min(1),
  predictedCommunicationMs: z.number().nonnegative().nullable().default(null),
});
const storedGenerationSchema = generationViewSchema.extend({
  predictedCommunicationMs: z.number().nullable().default(null),
});

const checkpointRecordSchema = z.object({
  step: z.number().int(),
  hash: digestSchema,
  peers: z.array(z.string()).default([]),
  /** Of a job with stages: of which one it is. */
  stage: z.number().int().nullable().default(null),
  /** By which others find it. */
  artefact: digestSchema.nullable().default(null),
  generation: z.number().int().nullable().default(null),
});
export type CheckpointRecord = z.infer<typeof checkpointRecordSchema>;

const heldRecordSchema = heldCheckpointSchema.extend({
  peers: z.array(z.string()),
  /** Nobody could get it when it was to be begun from; until somebody comes who has it. */
  lost: z.boolean(),
});
export type HeldRecord = z.infer<typeof heldRecordSchema>;

export const jobRecordSchema = z.object({
  id: jobIdSchema,
  spec: jobSpecSchema,
  /** The registered configuration that it was submitted with, `digits@3`, of a trial its sweep; null in records of earlier releases. */
  config: z.string().nullable().default(null),
  state: jobStateSchema,
  reason: z.string(),
  submittedAtMs: z.number(),
  startedAtMs: z.number().nullable(),
  endedAtMs: z.number().nullable(),
  members: z.record(z.string(), memberSchema),
  plan: storedPlanSchema.nullable(),
  /** The first and the last ones; they are numbered from 1, so the number of the plan is how many there were. */
  generations: z.array(storedGenerationSchema),
  /** When the current generation ended on its first rank; null while it runs. */
  interruptedAtMs: z.number().nullable(),
  /** When the interruption began from which the current generation has not yet committed a step. */
  recoveringSinceMs: z.number().nullable(),
  /** The usual time of a step, by the slowest of those who have reported the end of the current generation. */
  stepMs: z.number().nullable().default(null),
  /** Members of the current generation that neither reported its end nor are known to be dead. */
  silent: z.array(z.string()),
  pauseRequested: z.boolean(),
  /** An operator wants it paused: not yet told to the ranks, or told. */
  hold: z.enum(["asked", "told"]).nullable().default(null),
  holdReason: z.string().default(""),
  /** The checkpoint from which it goes on after a pause or another try: without one who has it, no ring is formed. */
  resumeFrom: z
    .object({
      step: z.number().int(),
      peers: z.array(z.string()),
      artefact: digestSchema.nullable().default(null),
    })
    .nullable()
    .default(null),
  /** It is a trial of a sweep, which alone lets it go on from its bound. */
  trial: z.object({ sweep: sweepIdSchema, number: z.number().int() }).nullable().default(null),
  /** Epochs at which it pauses by itself; null: it goes on to its end. */
  bound: z.number().nullable().default(null),
  /** What the held-out set said there, once it is there. */
  reached: z.object({ step: z.number().int(), evaluation: evaluationSchema }).nullable().default(null),
  /** In the queue: what its file says, until an operator says otherwise. */
  priority: prioritySchema.default(normalPriority),
  /** Members that it gives back at its next step boundary, by the job that they are for. */
  yielding: z.record(z.string(), jobIdSchema).default({}),
  /** What changed since the last plan, for its reason. */
  changes: z.array(z.string()),
  /** `peers`: who wrote it; a report that is told twice counts once. */
  checkpoints: z.array(checkpointRecordSchema),
  /** On whose disks which lie, the newest last: of any history of this job, and also such as nobody has reported. */
  held: z.array(heldRecordSchema).default([]),
  /** Of a job with stages: the hash of each before the first step. */
  beginnings: z.array(digestSchema).default([]),
  /** The step that all stages were to begin from while members could not get its checkpoints, and in how many generations so far. */
  missing: z
    .object({ step: z.number().int(), tries: z.number().int(), generation: z.number().int() })
    .nullable()
    .default(null),
  /** How many stages were asked for; the spec says how many there are. */
  stagesAsked: z.literal("auto").nullable().default(null),
  /** The last ones of those while it trained. */
  evaluations: z.array(evaluationPointSchema).default([]),
  /** Other states than those at the same steps of the current generation. */
  dissents: z.array(checkpointRecordSchema).default([]),
  /** Ranks of the current generation whose parameters are not those of the majority: they heal in the next one. */
  diverged: z.array(z.string()).default([]),
  /** Trainers that failed by themselves, by peer. */
  failures: failuresSchema,
  /** Generations from one start step that ended by a fault of one rank alone, by peer; absent where none did. */
  faults: z
    .record(z.string(), z.object({ step: z.number().int(), code: z.string(), count: z.number().int() }))
    .optional(),
  dataDigest: digestSchema.nullable(),
  model: modelDescriptionSchema.nullable(),
  /** Digest of the weights that `spec.from` names. */
  base: digestSchema.nullable().default(null),
  /** Everyone who ever was a rank: lineage. */
  peers: z.array(z.string()),
  engines: z.array(z.string()),
  result: z
    .object({
      point: trainingPointSchema,
      weights: digestSchema,
      weightsBytes: z.number(),
      evaluation: evaluationSchema,
      stoppedEarly: z.boolean().default(false),
      isBest: z.boolean().default(false),
      /** Of those ranks that have said the same. */
      attestation: envelopeSchema.optional(),
      atMs: z.number(),
    })
    .nullable(),
  /** The newest update that all ranks left out, the first of its row. */
  skipped: z.object({ step: z.number().int(), message: z.string() }).nullable().default(null),
  /** `name@N` once registered. */
  version: z.string().nullable(),
  /** Why it failed; absent in records of earlier releases. */
  failure: jobFailureSchema.nullable().default(null),
});
export type JobRecord = z.infer<typeof jobRecordSchema>;

export function newJob(id: string, spec: JobRecord["spec"], nowMs: number): JobRecord {
  return {
    id,
    spec,
    config: null,
    state: "waiting",
    reason: "submitted",
    submittedAtMs: nowMs,
    startedAtMs: null,
    endedAtMs: null,
    members: {},
    plan: null,
    generations: [],
    interruptedAtMs: null,
    recoveringSinceMs: null,
    stepMs: null,
    silent: [],
    pauseRequested: false,
    hold: null,
    holdReason: "",
    resumeFrom: null,
    trial: null,
    bound: null,
    reached: null,
    priority: spec.priority,
    yielding: {},
    changes: [],
    checkpoints: [],
    held: [],
    beginnings: [],
    missing: null,
    stagesAsked: spec.stages === "auto" ? "auto" : null,
    dissents: [],
    diverged: [],
    evaluations: [],
    failures: {},
    dataDigest: null,
    base: null,
    model: null,
    peers: [],
    engines: [],
    result: null,
    skipped: null,
    version: null,
    failure: null,
  };
}

/** All generations so far, also those that are no longer kept. */
export const generationCount = ({ plan }: JobRecord): number => plan?.generation ?? 0;

export const isOver = (job: JobRecord): boolean =>
  job.state === "succeeded" || job.state === "failed" || job.state === "cancelled";
