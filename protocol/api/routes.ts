import { z } from "zod";
import { jobSpecSchema } from "../job-spec.ts";
import {
  aliasRequestSchema,
  clusterViewSchema,
  deploymentStateSchema,
  deploymentViewSchema,
  deployRequestSchema,
  drainAnswerSchema,
  drainRequestSchema,
  issuedTokenSchema,
  jobStateSchema,
  jobViewSchema,
  observedSchema,
  peerStateSchema,
  peerViewSchema,
  priorityRequestSchema,
  pruneAnswerSchema,
  pruneRequestSchema,
  reachabilityRequestSchema,
  reachabilityViewSchema,
  readinessSchema,
  steerRequestSchema,
  tokenRequestSchema,
  versionDetailSchema,
  versionDifferenceSchema,
  versionViewSchema,
} from "../messages/api.ts";
import { auditEntrySchema, auditKindSchema } from "../messages/audit.ts";
import {
  datasetDetailSchema,
  datasetRequestSchema,
  datasetViewSchema,
  versionDataSchema,
} from "../messages/dataset.ts";
import {
  documentDetailSchema,
  documentKindSchema,
  documentReferenceSchema,
  documentRequestSchema,
  documentViewSchema,
  keyDifferenceSchema,
} from "../messages/document.ts";
import { jobLogsQuerySchema, jobLogsSchema } from "../messages/job-log.ts";
import { lossPointSchema } from "../messages/job-report.ts";
import { lineageSchema } from "../messages/lineage.ts";
import { quotaRequestSchema, quotaViewSchema } from "../messages/quota.ts";
import { retentionDetailSchema, retentionRequestSchema, retentionViewSchema } from "../messages/retention.ts";
import {
  rolloutPromotionSchema,
  rolloutRequestSchema,
  rolloutStateSchema,
  rolloutViewSchema,
} from "../messages/rollout.ts";
import { sweepStateSchema, sweepSummarySchema, sweepViewSchema } from "../messages/sweep.ts";
import { sweepSpecSchema } from "../sweep-spec.ts";
import { listOf, type Route } from "./route.ts";

const steering = {
  body: steerRequestSchema,
  mayBeEmpty: true,
  conditional: true,
  once: true,
  answer: jobViewSchema,
} as const;
const orderingRollout = {
  body: steerRequestSchema,
  mayBeEmpty: true,
  conditional: true,
  once: true,
  answer: rolloutViewSchema,
} as const;
const nothing = { answer: z.object({}) };
const removingAlias = {
  ...nothing,
  /** Only if it points there now. */
  query: z.strictObject({ from: z.coerce.number().int().positive().optional() }),
};
/** `name@3` or `name@alias` of another one. */
const compared = z.strictObject({
  with: z.string().regex(/^[^@]+@[^@]+$/, "must be NAME@N or NAME@ALIAS"),
});
/** Work that was begun from a registered configuration says so; the body is what that says, or it is refused. */
const fromConfig = z.strictObject({ config: documentReferenceSchema.optional() });

const get = <const Path extends string, const Rest extends object>(path: Path, summary: string, rest: Rest) =>
  ({ method: "GET", path, summary, ...rest }) as const;

const change = <
  const Method extends "POST" | "PUT" | "DELETE",
  const Path extends string,
  const Rest extends object,
>(
  method: Method,
  path: Path,
  summary: string,
  rest: Rest,
) => ({ method, path, summary, ...rest }) as const;

/**
 * The coordinator's HTTP API: what the command line and the dashboard speak, and nothing else. The server, its
 * `/openapi.json` and the clients are made from this table; there is no second list of paths.
 *
 * What changes something needs `Authorization: Bearer <operator token>`; reading needs nothing. Refusals are
 * `application/problem+json` (RFC 9457).
 */
export const routes = {
  live: get("/healthz", "Whether the process answers", { answer: z.object({ live: z.literal(true) }) }),
  ready: get("/readyz", "Whether the coordinator decides", {
    ...{ answer: readinessSchema, unready: true },
  }),
  openapi: get("/openapi.json", "This document", { answer: z.record(z.string(), z.unknown()) }),
  cluster: get("/api/cluster", "Everything at once", { answer: clusterViewSchema }),
  clusterEvents: get("/api/events", "Everything at once, then what changes, at most 4 times a second", {
    answer: clusterViewSchema,
    events: "always",
  }),
  audit: get(
    "/api/audit",
    "The decisions: who decided what, when and why",
    listOf(auditEntrySchema, {
      sinceMs: z.coerce.number().nonnegative(),
      untilMs: z.coerce.number().nonnegative(),
      job: z.string(),
      who: z.string().max(255),
      subject: z.string().max(255),
      kind: auditKindSchema,
    }),
  ),
  peers: get("/api/peers", "The agents, by name", listOf(peerViewSchema, { state: peerStateSchema })),
  drainPeer: change("POST", "/api/peers/{id}/drain", "Takes a machine out of service, or puts it back", {
    ...{ body: drainRequestSchema, mayBeEmpty: true, answer: drainAnswerSchema, once: true },
  }),
  removePeer: change("POST", "/api/peers/{id}/remove", "Refuses the identity of a machine from then on", {
    ...{ body: steerRequestSchema, mayBeEmpty: true, answer: nothing.answer, once: true },
  }),
  jobs: get(
    "/api/jobs",
    "The jobs, oldest first",
    listOf(jobViewSchema, {
      ...{ id: z.string(), state: jobStateSchema, name: z.string(), project: z.string() },
    }),
  ),
  job: get("/api/jobs/{id}", "One job", { answer: jobViewSchema }),
  curve: get("/api/jobs/{id}/curve", "The loss of a job by step", { answer: z.array(lossPointSchema) }),
  jobLogs: get("/api/jobs/{id}/logs", "What a job's script has printed, on all of its agents", {
    ...{ query: jobLogsQuerySchema, answer: jobLogsSchema, isPrivate: true },
  }),
  submitJob: change("POST", "/api/jobs", "Submits a job", {
    ...{ body: jobSpecSchema, bodyCode: "JOB_INVALID", query: fromConfig },
    ...{ answer: jobViewSchema, status: 201, location: "/api/jobs/{id}", once: true },
  }),
  cancelJob: change("POST", "/api/jobs/{id}/cancel", "Ends a job; its checkpoints stay for a day", steering),
  pauseJob: change(
    "POST",
    "/api/jobs/{id}/pause",
    "Stops a job at its next step, with a checkpoint",
    steering,
  ),
  resumeJob: change("POST", "/api/jobs/{id}/resume", "Lets a paused job go on", steering),
  retryJob: change(
    "POST",
    "/api/jobs/{id}/retry",
    "Lets a job that ended go on from its last checkpoint",
    steering,
  ),
  prioritiseJob: change("PUT", "/api/jobs/{id}/priority", "Gives a job another place in the queue", {
    ...{ body: priorityRequestSchema, conditional: true, answer: jobViewSchema },
  }),
  quotas: get(
    "/api/quotas",
    "What projects may have at a time, and what they have",
    listOf(quotaViewSchema, { project: z.string() }),
  ),
  quota: get("/api/quotas/{project}", "The quota of one project", { answer: quotaViewSchema }),
  setQuota: change("PUT", "/api/quotas/{project}", "Bounds what a project may have at a time", {
    ...{ body: quotaRequestSchema, conditional: true, answer: quotaViewSchema },
  }),
  removeQuota: change("DELETE", "/api/quotas/{project}", "Takes the bounds of a project away", {
    ...{ conditional: true, ...nothing },
  }),
  sweeps: get(
    "/api/sweeps",
    "The sweeps, oldest first",
    listOf(sweepSummarySchema, { state: sweepStateSchema, name: z.string() }),
  ),
  sweep: get("/api/sweeps/{id}", "One sweep with its trials", { answer: sweepViewSchema }),
  submitSweep: change("POST", "/api/sweeps", "Submits a sweep: a job with `search`", {
    ...{ body: sweepSpecSchema, bodyCode: "JOB_INVALID", query: fromConfig },
    ...{ answer: sweepViewSchema, status: 201, location: "/api/sweeps/{id}", once: true },
  }),
  cancelSweep: change(
    "POST",
    "/api/sweeps/{id}/cancel",
    "Ends a sweep and those of its trials that are not over",
    {
      ...{ body: steerRequestSchema, mayBeEmpty: true, conditional: true, once: true },
      answer: sweepViewSchema,
    },
  ),
  models: get(
    "/api/models",
    "The registered versions of all models, by name and number",
    listOf(versionViewSchema, { name: z.string(), jobId: z.string() }),
  ),
  model: get("/api/models/{name}/versions/{selector}", "One version with its manifest", {
    answer: versionDetailSchema,
  }),
  versionDiff: get(
    "/api/models/{name}/versions/{selector}/diff",
    "Where a version differs from another one",
    {
      query: compared,
      answer: z.object({ differences: z.array(versionDifferenceSchema) }),
    },
  ),
  lineage: get(
    "/api/models/{name}/versions/{selector}/lineage",
    "What a version comes from, and what became of it",
    { answer: lineageSchema },
  ),
  versionData: get(
    "/api/models/{name}/versions/{selector}/data",
    "What a prediction needs of the data set that a version was trained on, also after that was removed",
    { answer: versionDataSchema },
  ),
  removeVersion: change("DELETE", "/api/models/{name}/versions/{version}", "Frees the weights of a version", {
    ...nothing,
  }),
  pruneVersions: change("POST", "/api/models/{name}/prune", "Frees the weights of old versions", {
    ...{ body: pruneRequestSchema, answer: pruneAnswerSchema },
  }),
  retentionRules: get(
    "/api/retention",
    "By which rules versions of models go by themselves",
    listOf(retentionViewSchema, { name: z.string() }),
  ),
  retentionRule: get("/api/retention/{model}", "The rule of one model, and what stays although it is old", {
    answer: retentionDetailSchema,
  }),
  setRetentionRule: change("PUT", "/api/retention/{model}", "Lets old versions of a model go from now on", {
    ...{ body: retentionRequestSchema, conditional: true, answer: retentionDetailSchema },
  }),
  removeRetentionRule: change("DELETE", "/api/retention/{model}", "Lets all versions of a model stay", {
    ...{ conditional: true, ...nothing },
  }),
  moveAlias: change("PUT", "/api/models/{name}/aliases/{alias}", "Points an alias to a version", {
    ...{ body: aliasRequestSchema, answer: versionViewSchema },
  }),
  removeAlias: change("DELETE", "/api/models/{name}/aliases/{alias}", "Removes an alias", removingAlias),
  deployments: get(
    "/api/deployments",
    "What is served, and where",
    listOf(deploymentViewSchema, { name: z.string(), state: deploymentStateSchema }),
  ),
  deployment: get(
    "/api/deployments/{name}",
    "What is served under a name; where nothing is yet, what is about to be",
    { answer: deploymentViewSchema },
  ),
  deploy: change("PUT", "/api/deployments/{name}", "Serves a version", {
    ...{ body: deployRequestSchema, conditional: true, answer: deploymentViewSchema },
  }),
  undeploy: change("DELETE", "/api/deployments/{name}", "Serves a model no longer", {
    ...{ conditional: true, ...nothing },
  }),
  rollouts: get(
    "/api/rollouts",
    "The last rollout of each name that is served",
    listOf(rolloutViewSchema, { name: z.string(), state: rolloutStateSchema }),
  ),
  rollout: get("/api/rollouts/{name}", "The last rollout of one name", { answer: rolloutViewSchema }),
  startRollout: change("POST", "/api/rollouts", "Lets a version take over from the live one in steps", {
    ...{ body: rolloutRequestSchema, answer: rolloutViewSchema },
    ...{ status: 201, location: "/api/rollouts/{name}", once: true },
  }),
  pauseRollout: change(
    "POST",
    "/api/rollouts/{name}/pause",
    "Keeps the weight of a rollout as it is; a version that is worse is rolled back all the same",
    orderingRollout,
  ),
  resumeRollout: change(
    "POST",
    "/api/rollouts/{name}/resume",
    "Lets a paused rollout go on, with the hold of its step from the beginning",
    orderingRollout,
  ),
  promoteRollout: change(
    "POST",
    "/api/rollouts/{name}/promote",
    "Goes to the next step whatever the hold, or makes the version live at once",
    { ...orderingRollout, body: rolloutPromotionSchema },
  ),
  abortRollout: change(
    "POST",
    "/api/rollouts/{name}/abort",
    "Takes the candidate away; the live version answers everything",
    orderingRollout,
  ),
  datasets: get(
    "/api/datasets",
    "The registered data sets, by name and number",
    listOf(datasetViewSchema, { name: z.string() }),
  ),
  dataset: get("/api/datasets/{name}/versions/{version}", "One data set with its manifest", {
    answer: datasetDetailSchema,
  }),
  addDataset: change("POST", "/api/datasets", "Registers a data set that an agent holds", {
    ...{ body: datasetRequestSchema, answer: datasetDetailSchema, status: 201, once: true },
    location: "/api/datasets/{name}/versions/{version}",
  }),
  removeDataset: change("DELETE", "/api/datasets/{name}/versions/{version}", "Forgets a data set", nothing),
  documents: get(
    "/api/documents",
    "The registered pipelines and job configurations, by kind, name and number",
    listOf(documentViewSchema, { kind: documentKindSchema, name: z.string(), digest: z.string() }),
  ),
  document: get("/api/documents/{kind}/{name}/versions/{selector}", "One with its content", {
    ...{ answer: documentDetailSchema, isPrivate: true },
  }),
  addDocument: change("POST", "/api/documents", "Registers a pipeline or a job configuration", {
    ...{ body: documentRequestSchema, answer: documentDetailSchema, status: 201, once: true },
    location: "/api/documents/{kind}/{name}/versions/{version}",
  }),
  documentDiff: get(
    "/api/documents/{kind}/{name}/versions/{selector}/diff",
    "Where one differs from another one of its kind",
    {
      ...{ query: compared, isPrivate: true },
      answer: z.object({ differences: z.array(keyDifferenceSchema) }),
    },
  ),
  removeDocument: change(
    "DELETE",
    "/api/documents/{kind}/{name}/versions/{version}",
    "Forgets what one says; its number is not given again",
    nothing,
  ),
  moveDocumentAlias: change(
    "PUT",
    "/api/documents/{kind}/{name}/aliases/{alias}",
    "Points an alias to a number",
    { body: aliasRequestSchema, answer: documentViewSchema },
  ),
  removeDocumentAlias: change(
    "DELETE",
    "/api/documents/{kind}/{name}/aliases/{alias}",
    "Removes an alias",
    removingAlias,
  ),
  createToken: change("POST", "/api/tokens", "Makes a token to join with", {
    ...{ body: tokenRequestSchema, answer: issuedTokenSchema, once: true },
  }),
  revokeToken: change(
    "DELETE",
    "/api/tokens/{id}",
    "Takes a token back: nobody joins with it any more",
    nothing,
  ),
  observed: get("/api/observed", "Whoever asks, as the coordinator sees it", { answer: observedSchema }),
  dialBack: change("POST", "/api/reachability", "Dials the address that the request comes from", {
    ...{ body: reachabilityRequestSchema, answer: reachabilityViewSchema },
  }),
} as const satisfies Record<string, Route>;

export type Routes = typeof routes;
export type RouteName = keyof Routes;
