import { z } from "zod";
import { aliasSchema, digestSchema, nameSchema, peerIdSchema, roleSchema } from "../ids.ts";
import { algorithmSchema, jobSpecSchema, normalPriority, prioritySchema } from "../job-spec.ts";
import { limits } from "../limits.ts";
import { envelopeSchema } from "./attestation.ts";
import { keyDifferenceSchema } from "./document.ts";
import { evaluationSchema, type LossPoint, progressSchema } from "./job-report.ts";
import { linkSchema } from "./link.ts";
import { capabilitiesSchema } from "./membership.ts";
import { metricsSchema, versionManifestSchema } from "./model.ts";
import { rolloutViewSchema } from "./rollout.ts";
import { shardSchema } from "./serving.ts";
import { sweepIdSchema, sweepSummarySchema } from "./sweep.ts";

/** What goes over the coordinator's HTTP API; protocol/api/routes.ts says on which route. */

/**
 * `draining` works on what it has and gets nothing new; `suspect` has been silent for longer than its link explains; `away` is a
 * member that has not been here for some minutes.
 */
export const peerStateSchema = z.enum(["alive", "draining", "suspect", "dead", "left", "away"]);

export const peerViewSchema = z.object({
  peerId: peerIdSchema,
  name: nameSchema,
  roles: z.array(roleSchema),
  state: peerStateSchema,
  /** It has come and gone several times lately, and is asked last. */
  flapping: z.boolean().default(false),
  release: z.string(),
  addresses: z.array(z.string()),
  gatewayUrl: z.string().nullable(),
  capabilities: capabilitiesSchema,
  load: z.object({ cpu: z.number(), residentBytes: z.number() }),
  /** Links to other members as this peer measured them. */
  links: z.array(linkSchema),
  lastSeenMs: z.number(),
});
export type PeerView = z.infer<typeof peerViewSchema>;

export const jobStateSchema = z.enum([
  "waiting",
  "preparing",
  "running",
  "reforming",
  "paused",
  "succeeded",
  "failed",
  "cancelled",
]);

export const steerActionSchema = z.enum(["cancel", "pause", "resume", "retry"]);
export type SteerAction = z.infer<typeof steerActionSchema>;
/** Why, for the event log. */
export const steerRequestSchema = z.strictObject({ reason: z.string().max(500).default("") });

export const priorityRequestSchema = z.strictObject({
  priority: prioritySchema,
  /** Why, for the event log. */
  reason: z.string().max(500).default(""),
});
export type PriorityRequest = z.infer<typeof priorityRequestSchema>;

export const drainRequestSchema = z.strictObject({
  /** False puts it back in service. */
  drained: z.boolean().default(true),
  reason: z.string().max(500).default(""),
});

export const drainAnswerSchema = z.object({
  peer: peerViewSchema,
  /** No job and no deployment needs it any more: it may be switched off. */
  released: z.boolean(),
});
export type DrainAnswer = z.infer<typeof drainAnswerSchema>;

export const generationViewSchema = z.object({
  generation: z.number().int(),
  /** Peer ids in ring order; the index is the rank. */
  ranks: z.array(peerIdSchema),
  startStep: z.number().int(),
  reason: z.string(),
  startedAtMs: z.number(),
  /** From the event that broke the generation before to the first step committed in this one; null for the first. */
  recoveryMs: z.number().nullable(),
  /** How it sums: chosen from the measured links unless the job says it. */
  algorithm: algorithmSchema.default("ring"),
  /** Time of one step's all-reduce that the link model predicts; null where links are not known. */
  predictedCommunicationMs: z.number().nullable(),
  /** Ranks that began without the state and have copied it meanwhile: how much, and how long it took them. */
  healed: z.array(z.object({ peerId: peerIdSchema, bytes: z.number(), ms: z.number() })).default([]),
});
export type GenerationView = z.infer<typeof generationViewSchema>;

/** `code` is one of the table of errors, unless a newer agent said it. */
export const jobFailureSchema = z.object({ code: z.string().max(64), message: z.string() });
export type JobFailure = z.infer<typeof jobFailureSchema>;

/** The held-out set while the job trains, after `step` steps. */
export const evaluationPointSchema = evaluationSchema.extend({ step: z.number().int() });

export const jobViewSchema = z.object({
  id: z.string(),
  spec: jobSpecSchema,
  /** The registered configuration that it was submitted with, `digits@3`, of a trial its sweep; null of jobs of an earlier release. */
  config: z.string().nullable().default(null),
  /** Of which sweep it is a trial. */
  trial: z.object({ sweep: sweepIdSchema, number: z.number().int() }).nullable().default(null),
  state: jobStateSchema,
  /** Why it is in this state, for a person: "waits for 1 more worker: 1 of 2 present". */
  reason: z.string(),
  /** In the queue; what an operator said last, else what its file says. */
  priority: prioritySchema.default(normalPriority),
  /** Where it stands among those that wait for agents, from 1; null when it does not. */
  queuePosition: z.number().int().positive().nullable().default(null),
  submittedAtMs: z.number(),
  startedAtMs: z.number().nullable(),
  endedAtMs: z.number().nullable(),
  progress: progressSchema.omit({ points: true }).nullable(),
  /** The first generation and the last 200, oldest first; the last one is current. */
  generations: z.array(generationViewSchema),
  /** How many there were. */
  generationCount: z.number().int(),
  checkpoints: z.array(z.object({ step: z.number().int(), hash: digestSchema, ranks: z.number().int() })),
  /** While it trained, oldest first; the last 500. */
  evaluations: z.array(evaluationPointSchema),
  evaluation: evaluationSchema.nullable(),
  /** `name@N` once registered. */
  version: z.string().nullable(),
  /** Why it failed; null unless `state` is failed. */
  failure: jobFailureSchema.nullable(),
});
export type JobView = z.infer<typeof jobViewSchema>;

export const versionViewSchema = z.object({
  name: nameSchema,
  version: z.number().int().positive(),
  /** Digest of the manifest. */
  digest: digestSchema,
  weightsDigest: digestSchema,
  weightsBytes: z.number(),
  /** Null where the target is a number. */
  accuracy: z.number().nullable(),
  loss: z.number(),
  metrics: metricsSchema,
  parameterCount: z.number().int(),
  layerCount: z.number().int(),
  jobId: z.string(),
  createdAtMs: z.number(),
  /** Ranks of its job whose signatures on it the coordinator has verified; none of versions of earlier releases. */
  signers: z.array(peerIdSchema).default([]),
  /** Live peers that hold the weights. */
  holders: z.array(peerIdSchema),
  /** So many should, where there are as many agents. */
  replicasWanted: z.number().int().positive().default(limits.replicas),
  /** Names that point to it. */
  aliases: z.array(aliasSchema),
});
export type VersionView = z.infer<typeof versionViewSchema>;

export const versionDetailSchema = versionViewSchema.extend({
  manifest: versionManifestSchema,
  attestation: envelopeSchema.optional(),
  /** By the cluster's authority; none of versions of earlier releases. */
  registration: envelopeSchema.optional(),
});
export type VersionDetail = z.infer<typeof versionDetailSchema>;

export const aliasRequestSchema = z.strictObject({
  version: z.number().int().positive(),
  /** Only if it points there now; null: only if there is none yet. Absent: whatever it points to. */
  from: z.number().int().positive().nullable().optional(),
});
export type AliasRequest = z.infer<typeof aliasRequestSchema>;

export const pruneRequestSchema = z.strictObject({
  /** The newest so many stay. */
  keepLast: z.number().int().nonnegative().max(1_000_000),
  /** Only says what would go. */
  dryRun: z.boolean().default(false),
});
export type PruneRequest = z.infer<typeof pruneRequestSchema>;

export const pruneAnswerSchema = z.object({
  removed: z.array(z.number().int().positive()),
  /** Older than those that stay, and needed all the same. */
  kept: z.array(z.object({ version: z.number().int().positive(), reason: z.string() })),
});
export type PruneAnswer = z.infer<typeof pruneAnswerSchema>;

/** Where two versions differ, in what made them and in how good they are; values are JSON, absent where one has none. */
export const versionDifferenceSchema = keyDifferenceSchema.extend({
  part: z.enum(["job", "model", "lineage", "metrics"]),
});
export type VersionDifference = z.infer<typeof versionDifferenceSchema>;

export const deployRequestSchema = z.strictObject({
  /** Its number, or an alias: then the one that it points to now. */
  version: z.union([z.number().int().positive(), aliasSchema]),
  shards: z.number().int().positive().max(64).default(1),
  replicas: z.number().int().positive().max(64).default(1),
});
export type DeployRequest = z.infer<typeof deployRequestSchema>;

/** `ready`: every shard has all replicas; `degraded`: each shard has one; `unavailable`: a shard has none. */
export const deploymentStateSchema = z.enum(["loading", "ready", "degraded", "unavailable"]);

export const deploymentViewSchema = z.object({
  deployment: z.number().int().positive(),
  name: nameSchema,
  version: z.number().int().positive(),
  /** Answers requests. One that is not live yet takes over from the live one of its name when it is ready. */
  live: z.boolean(),
  /** Of a candidate in a rollout: percent of the requests that go to it. It takes over when the rollout promotes it. */
  weight: z.number().int().nullable().default(null),
  shardCount: z.number().int(),
  replicaCount: z.number().int(),
  state: deploymentStateSchema,
  reason: z.string(),
  revision: z.number().int(),
  shards: z.array(shardSchema),
});
export type DeploymentView = z.infer<typeof deploymentViewSchema>;

export const eventViewSchema = z.object({
  sequence: z.number().int(),
  atMs: z.number(),
  subject: z.string(),
  message: z.string(),
});
export type EventView = z.infer<typeof eventViewSchema>;

export const clusterViewSchema = z.object({
  name: nameSchema,
  nowMs: z.number(),
  release: z.string(),
  coordinator: z.object({ peerId: peerIdSchema, term: z.number().int(), startedAtMs: z.number() }),
  peers: z.array(peerViewSchema),
  jobs: z.array(jobViewSchema),
  versions: z.array(versionViewSchema),
  deployments: z.array(deploymentViewSchema),
  sweeps: z.array(sweepSummarySchema).default([]),
  rollouts: z.array(rolloutViewSchema).default([]),
  /** Newest last; the decisions and their reasons. */
  events: z.array(eventViewSchema),
});
export type ClusterView = z.infer<typeof clusterViewSchema>;

export const tokenRequestSchema = z.strictObject({
  role: roleSchema.default("worker"),
  expiresInSeconds: z.number().int().positive().max(31_536_000).default(86_400),
  /** Whether the token names the coordinator's addresses. Without them only mDNS finds it, whatever address it gets. */
  addresses: z.boolean().default(true),
});
export type TokenRequest = z.infer<typeof tokenRequestSchema>;

/** `id`: what it can be taken back by. */
export const issuedTokenSchema = z.object({ token: z.string(), id: z.string() });
export type IssuedToken = z.infer<typeof issuedTokenSchema>;

/** Whether a coordinator decides, and if not, why. */
export const readinessSchema = z.object({
  ready: z.boolean(),
  /** Another one leads, or none does yet. */
  standby: z.boolean(),
  /** Its HTTP address, as far as who stands by knows. */
  leader: z.string().optional(),
  /** Why it is not ready. */
  reasons: z.array(z.string()),
  /** HTTP addresses of all coordinators of the cluster, where there are several. */
  coordinators: z.array(z.string()),
});
export type Readiness = z.infer<typeof readinessSchema>;

/** Whoever asks, as the coordinator sees it. */
export const observedSchema = z.object({
  address: z.string().max(64),
  port: z.number().int(),
  nowMs: z.number(),
  /** Multiaddrs of the coordinator's own node. */
  addresses: z.array(z.string().max(512)).max(64),
});
export type Observed = z.infer<typeof observedSchema>;

/** Asks the coordinator to dial the address that this request comes from. */
export const reachabilityRequestSchema = z.strictObject({
  port: z.number().int().min(1).max(65_535),
  /** What is heard there first; another program would say something else. */
  challenge: z.string().min(16).max(64),
});
export type ReachabilityRequest = z.infer<typeof reachabilityRequestSchema>;

export const reachabilityViewSchema = z.object({
  address: z.string(),
  port: z.number().int(),
  reached: z.boolean(),
  /** Why not. */
  detail: z.string(),
});
export type ReachabilityView = z.infer<typeof reachabilityViewSchema>;

export const problemSchema = z.object({
  type: z.string(),
  title: z.string(),
  status: z.number().int(),
  detail: z.string(),
  code: z.string(),
  data: z.record(z.string(), z.unknown()),
  remedy: z.string(),
});
export type Problem = z.infer<typeof problemSchema>;

export type { LossPoint };
