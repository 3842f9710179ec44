import { z } from "zod";
import { digestSchema, peerIdSchema, roleSchema } from "../ids.ts";
import { documentKindSchema } from "./document.ts";
import { rolloutEvidenceSchema, rolloutOrderSchema } from "./rollout.ts";

/** Who made the coordinator decide: a peer by what it said, a person, or the coordinator itself by looking around. */
export const deciderSchema = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("coordinator") }),
  z.object({ kind: z.literal("operator") }),
  z.object({ kind: z.literal("peer"), peerId: peerIdSchema, name: z.string() }),
]);
export type Decider = z.infer<typeof deciderSchema>;

const event = <Kind extends string, Shape extends z.ZodRawShape>(kind: Kind, shape: Shape) =>
  z.object({ kind: z.literal(kind), ...shape });

/** What happened that was decided on. */
export const auditEventSchema = z.discriminatedUnion("kind", [
  event("coordinator-started", { release: z.string() }),
  event("coordinator-restored", {}),
  event("member-joined", { engine: z.string(), roles: z.array(roleSchema), incarnation: z.string() }),
  event("member-heard", { engine: z.string(), incarnation: z.string() }),
  event("member-disconnected", {}),
  event("member-leaving", { detail: z.string() }),
  event("member-released", {}),
  event("member-drained", { detail: z.string() }),
  event("member-undrained", { detail: z.string() }),
  event("member-removed", { detail: z.string() }),
  /** What silence, or its end, says of members: those that one look has judged otherwise than the one before. */
  event("members-judged", {
    count: z.number().int().nonnegative(),
    /** The first of them. */
    members: z.array(
      z.object({
        peerId: peerIdSchema,
        name: z.string(),
        state: z.enum(["alive", "suspect", "dead"]),
        silentMs: z.number(),
        phi: z.number(),
      }),
    ),
  }),
  event("job-submitted", { jobId: z.string() }),
  event("job-cancelled", { jobId: z.string() }),
  event("job-paused", { jobId: z.string() }),
  event("job-resumed", { jobId: z.string() }),
  event("job-retried", { jobId: z.string() }),
  event("job-reported", { jobId: z.string(), report: z.string(), generation: z.number().int().nullable() }),
  event("job-looked-at", { jobId: z.string() }),
  event("job-granted", { jobId: z.string(), agents: z.number().int() }),
  event("job-reduced", { jobId: z.string(), agents: z.number().int(), to: z.string().nullable() }),
  event("job-prioritised", { jobId: z.string(), priority: z.number().int(), detail: z.string() }),
  event("job-continued", { jobId: z.string(), epochs: z.number().nullable() }),
  event("job-stopped", { jobId: z.string() }),
  event("checkpoints-released", { jobId: z.string() }),
  event("sweep-submitted", { sweepId: z.string() }),
  event("sweep-cancelled", { sweepId: z.string() }),
  event("sweep-looked-at", { sweepId: z.string() }),
  event("quota-set", {
    project: z.string(),
    agents: z.number().int().nullable(),
    jobs: z.number().int().nullable(),
  }),
  event("quota-removed", { project: z.string() }),
  event("dataset-added", { dataset: z.string(), digest: z.string() }),
  event("dataset-removed", { dataset: z.string() }),
  event("document-added", { of: documentKindSchema, document: z.string(), digest: digestSchema }),
  event("documents-removed", { of: documentKindSchema, documents: z.array(z.string()) }),
  event("alias-moved", {
    /** What it is an alias of. */
    of: z.enum(["model", ...documentKindSchema.options]).default("model"),
    name: z.string(),
    alias: z.string(),
    version: z.number().int().nullable(),
  }),
  event("retention-set", {
    name: z.string(),
    keepLast: z.number().int(),
    keepForDays: z.number().int().nullable(),
  }),
  event("retention-removed", { name: z.string() }),
  event("versions-removed", { name: z.string(), versions: z.array(z.number().int()) }),
  event("deployment-requested", {
    name: z.string(),
    version: z.number().int(),
    shards: z.number().int(),
    replicas: z.number().int(),
  }),
  event("deployment-removed", { name: z.string() }),
  event("deployment-looked-at", { deployment: z.number().int() }),
  event("shard-reported", {
    deployment: z.number().int(),
    shardIndex: z.number().int(),
    state: z.string(),
    detail: z.string(),
  }),
  event("rollout-requested", {
    name: z.string(),
    version: z.number().int(),
    steps: z.array(z.number().int()),
  }),
  event("rollout-ordered", {
    name: z.string(),
    order: rolloutOrderSchema,
    full: z.boolean(),
    detail: z.string(),
  }),
  event("rollout-looked-at", { name: z.string(), evidence: rolloutEvidenceSchema }),
  event("token-created", {
    /** Its id; never the token. */
    token: z.string(),
    role: roleSchema,
    expiresAtMs: z.number(),
    /** Whether it names the coordinators' addresses. */
    addresses: z.boolean(),
  }),
  event("token-revoked", { token: z.string() }),
  /** Told by a release that kept no decisions. */
  event("told-before", {}),
]);
export type AuditEvent = z.infer<typeof auditEventSchema>;
export const auditKindSchema = z.enum(auditEventSchema.options.map(({ shape }) => shape.kind.value));

const auditBase = {
  /** Consecutive from 1. */
  sequence: z.number().int().positive(),
  atMs: z.number(),
  /** Of the coordinator that decided. */
  term: z.number().int().nonnegative(),
  who: deciderSchema,
  /** What it is about, for a person: "job-3 digits". */
  subject: z.string(),
  event: auditEventSchema,
  /** Why, for a person. */
  reason: z.string(),
  /** Whether it is shown as an event, too; the others are steps in between. */
  isNews: z.boolean(),
};
export const auditBaseSchema = z.object(auditBase);

/** One decision as `ringfold audit` shows it. */
export const auditEntrySchema = z.object({
  ...auditBase,
  /** Records that it changed, and their fields; `+` before a new record, `-` before one that is gone. */
  decision: z.array(z.object({ record: z.string(), fields: z.array(z.string()) })),
});
export type AuditEntry = z.infer<typeof auditEntrySchema>;
