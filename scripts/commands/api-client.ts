import { readFile } from "node:fs/promises";
import { join } from "node:path";
import {
  type ApiConnection,
  callList,
  callRoute,
  type ItemOf,
  type ListName,
} from "../../protocol/api/client.ts";
import { Coordinators } from "../../protocol/api/coordinators.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import type { Selector } from "../../protocol/ids.ts";
import type { JobSpec } from "../../protocol/job-spec.ts";
import {
  type AliasRequest,
  type ClusterView,
  clusterViewSchema,
  type DeploymentView,
  type DeployRequest,
  type DrainAnswer,
  type IssuedToken,
  type JobView,
  type Observed,
  type PeerView,
  type PriorityRequest,
  type PruneAnswer,
  type PruneRequest,
  type ReachabilityRequest,
  type ReachabilityView,
  type SteerAction,
  type TokenRequest,
  type VersionDetail,
  type VersionDifference,
  type VersionView,
} from "../../protocol/messages/api.ts";
import type { AuditEntry } from "../../protocol/messages/audit.ts";
import { applyClusterChange, clusterChangeSchema } from "../../protocol/messages/cluster-change.ts";
import type {
  DatasetDetail,
  DatasetRequest,
  DatasetView,
  VersionData,
} from "../../protocol/messages/dataset.ts";
import type {
  DocumentDetail,
  DocumentKind,
  DocumentRequest,
  DocumentView,
  KeyDifference,
} from "../../protocol/messages/document.ts";
import type { JobLogs, JobLogsQuery } from "../../protocol/messages/job-log.ts";
import type { Lineage } from "../../protocol/messages/lineage.ts";
import type { QuotaRequest, QuotaView } from "../../protocol/messages/quota.ts";
import type { RetentionDetail, RetentionRequest, RetentionView } from "../../protocol/messages/retention.ts";
import type { RolloutOrder, RolloutRequest, RolloutView } from "../../protocol/messages/rollout.ts";
import type { SweepSummary, SweepView } from "../../protocol/messages/sweep.ts";
import type { SweepSpec } from "../../protocol/sweep-spec.ts";
import { type CommandContext, ringfoldHome } from "./command.ts";
import {
  type FiltersOf,
  type ListNews,
  readEventData,
  streamEvents,
  watchList,
} from "./follow/list-watcher.ts";

/**
 * The coordinator's HTTP API (protocol/api/routes.ts), typed: each answer is validated, each request ends within
 * `limits.requestTimeoutMs` or when the signal aborts.
 *
 * Every method throws RingfoldError COORDINATOR_UNREACHABLE | REQUEST_TIMEOUT | CANCELLED | MESSAGE_INVALID, or the
 * code that the coordinator answered with.
 */
export interface ApiClient {
  /** Of the coordinator that leads, as far as is known. */
  readonly baseUrl: string;
  /** Whether there is an operator token to show. */
  readonly isOperator: boolean;
  cluster(): Promise<ClusterView>;
  peers(): Promise<PeerView[]>;
  /** Takes a machine out of service, or puts it back. */
  drainPeer(peerId: string, request: { drained: boolean; reason: string }): Promise<DrainAnswer>;
  /** For good. */
  removePeer(peerId: string, reason: string): Promise<unknown>;
  jobs(): Promise<JobView[]>;
  job(id: string): Promise<JobView>;
  jobLogs(id: string, query: JobLogsQuery): Promise<JobLogs>;
  /** @param config that it was read from, `digits@3` */
  submitJob(spec: JobSpec, config?: string): Promise<JobView>;
  cancelJob(id: string): Promise<JobView>;
  steerJob(id: string, action: SteerAction, reason: string): Promise<JobView>;
  /** Its place in the queue from now on. */
  prioritiseJob(id: string, request: PriorityRequest): Promise<JobView>;
  quotas(): Promise<QuotaView[]>;
  setQuota(project: string, request: QuotaRequest): Promise<QuotaView>;
  removeQuota(project: string): Promise<void>;
  sweeps(): Promise<SweepSummary[]>;
  sweep(id: string): Promise<SweepView>;
  submitSweep(spec: SweepSpec, config?: string): Promise<SweepView>;
  cancelSweep(id: string, reason: string): Promise<SweepView>;
  models(): Promise<VersionView[]>;
  version(name: string, selector: Selector): Promise<VersionDetail>;
  /** @param other `name@3` or `name@alias` */
  versionDiff(name: string, selector: Selector, other: string): Promise<VersionDifference[]>;
  /** What a prediction needs of the data set that it was trained on. */
  versionData(name: string, selector: Selector): Promise<VersionData>;
  lineage(name: string, selector: Selector): Promise<Lineage>;
  removeVersion(name: string, version: number): Promise<void>;
  pruneVersions(name: string, request: PruneRequest): Promise<PruneAnswer>;
  retentionRules(): Promise<RetentionView[]>;
  retentionRule(model: string): Promise<RetentionDetail>;
  setRetentionRule(model: string, rule: RetentionRequest): Promise<RetentionDetail>;
  removeRetentionRule(model: string): Promise<void>;
  moveAlias(name: string, alias: string, request: AliasRequest): Promise<VersionView>;
  /** @param from only if it points to this version now */
  removeAlias(name: string, alias: string, from?: number): Promise<void>;
  deployments(): Promise<DeploymentView[]>;
  deploy(name: string, request: DeployRequest): Promise<DeploymentView>;
  removeDeployment(name: string): Promise<void>;
  rollouts(): Promise<RolloutView[]>;
  rollout(name: string): Promise<RolloutView>;
  startRollout(request: RolloutRequest): Promise<RolloutView>;
  /** @param how `full`: a promotion to the end, and not to the next step */
  orderRollout(
    name: string,
    order: RolloutOrder,
    how: { reason: string; full?: boolean },
  ): Promise<RolloutView>;
  datasets(): Promise<DatasetView[]>;
  dataset(name: string, version: number): Promise<DatasetDetail>;
  addDataset(request: DatasetRequest): Promise<DatasetDetail>;
  removeDataset(name: string, version: number): Promise<void>;
  documents(filters: FiltersOf<"documents">): Promise<DocumentView[]>;
  document(kind: DocumentKind, name: string, selector: Selector): Promise<DocumentDetail>;
  addDocument(request: DocumentRequest): Promise<DocumentDetail>;
  /** @param other of the same kind, `name@3` or `name@alias` */
  documentDiff(kind: DocumentKind, name: string, selector: Selector, other: string): Promise<KeyDifference[]>;
  removeDocument(kind: DocumentKind, name: string, version: number): Promise<void>;
  moveDocumentAlias(place: DocumentPlace, alias: string, request: AliasRequest): Promise<DocumentView>;
  removeDocumentAlias(place: DocumentPlace, alias: string, from?: number): Promise<void>;
  createToken(request: TokenRequest): Promise<IssuedToken>;
  revokeToken(id: string): Promise<void>;
  /** This machine as the coordinator sees it. */
  observed(): Promise<Observed>;
  /** Asks the coordinator to dial this machine. */
  dialBack(request: ReachabilityRequest): Promise<ReachabilityView>;
  /** The log of decisions. */
  audit(wanted: FiltersOf<"audit">): Promise<AuditEntry[]>;
  /**
   * A list as it changes, until the connection or the signal ends.
   * @param lastEventId of the event that the caller had last, where it watched before
   */
  watch<Name extends ListName>(
    name: Name,
    filters: FiltersOf<Name>,
    from: { readonly signal: AbortSignal; readonly lastEventId?: string | undefined },
  ): AsyncGenerator<ListNews<ItemOf<Name>>>;
  /** The coordinator's view, now and after each change, until the connection or `signal` ends. */
  clusterViews(signal: AbortSignal): AsyncGenerator<ClusterView>;
}

type DocumentPlace = Pick<DocumentView, "kind" | "name">;

/** The client for a command: address, token and signal from its context. @throws RingfoldError USAGE */
export async function connectApi({ io, common, signal }: CommandContext): Promise<ApiClient> {
  if (common.coordinator === true)
    throw new RingfoldError(
      "USAGE",
      "--coordinator: give its HTTP address, for example http://127.0.0.1:7070",
    );
  return createApiClient({
    baseUrl: common.coordinator,
    operatorToken:
      common.operatorToken ?? (io.env.RINGFOLD_OPERATOR_TOKEN || (await readTokenFile(ringfoldHome(io.env)))),
    signal,
  });
}

/** The coordinator leaves its token beside its data; on another machine there is none, and most routes need none. */
async function readTokenFile(home: string): Promise<string | undefined> {
  const path = join(home, "coordinator", "operator-token");
  const text = await readFile(path, "utf8").catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "ENOENT" || cause.code === "ENOTDIR" || cause.code === "EACCES") return undefined;
    throw new RingfoldError("CONFIG_INVALID", `cannot read ${path}: ${cause.message}`, { path }, { cause });
  });
  return text?.trim() || undefined;
}

/** @param baseUrl of one coordinator, or of several with commas: whichever leads is asked */
export function createApiClient({
  baseUrl,
  ...given
}: Omit<ApiConnection, "coordinators"> & { readonly baseUrl: string }): ApiClient {
  const options: ApiConnection = { ...given, coordinators: new Coordinators(baseUrl) };
  return {
    get baseUrl() {
      return options.coordinators.url;
    },
    isOperator: options.operatorToken !== undefined,
    cluster: () => callRoute(options, "cluster", {}),
    peers: () => callList(options, "peers"),
    drainPeer: (id, body) => callRoute(options, "drainPeer", { id, body }),
    removePeer: (id, reason) => callRoute(options, "removePeer", { id, body: { reason } }),
    jobs: () => callList(options, "jobs"),
    job: (id) => callRoute(options, "job", { id }),
    jobLogs: (id, query) => callRoute(options, "jobLogs", { id, query }),
    submitJob: (body, config) => callRoute(options, "submitJob", { body, query: { config } }),
    cancelJob: (id) => callRoute(options, "cancelJob", { id, body: {} }),
    steerJob: (id, action, reason) => callRoute(options, `${action}Job`, { id, body: { reason } }),
    prioritiseJob: (id, body) => callRoute(options, "prioritiseJob", { id, body }),
    quotas: () => callList(options, "quotas"),
    setQuota: (project, body) => callRoute(options, "setQuota", { project, body }),
    async removeQuota(project) {
      await callRoute(options, "removeQuota", { project });
    },
    sweeps: () => callList(options, "sweeps"),
    sweep: (id) => callRoute(options, "sweep", { id }),
    submitSweep: ({ job, search }, config) =>
      callRoute(options, "submitSweep", { body: { ...job, search }, query: { config } }),
    cancelSweep: (id, reason) => callRoute(options, "cancelSweep", { id, body: { reason } }),
    models: () => callList(options, "models"),
    version: (name, selector) => callRoute(options, "model", { name, selector }),
    versionDiff: async (name, selector, other) =>
      (await callRoute(options, "versionDiff", { name, selector, query: { with: other } })).differences,
    versionData: (name, selector) => callRoute(options, "versionData", { name, selector }),
    lineage: (name, selector) => callRoute(options, "lineage", { name, selector }),
    async removeVersion(name, version) {
      await callRoute(options, "removeVersion", { name, version });
    },
    pruneVersions: (name, body) => callRoute(options, "pruneVersions", { name, body }),
    retentionRules: () => callList(options, "retentionRules"),
    retentionRule: (model) => callRoute(options, "retentionRule", { model }),
    setRetentionRule: (model, body) => callRoute(options, "setRetentionRule", { model, body }),
    async removeRetentionRule(model) {
      await callRoute(options, "removeRetentionRule", { model });
    },
    moveAlias: (name, alias, body) => callRoute(options, "moveAlias", { name, alias, body }),
    async removeAlias(name, alias, from) {
      await callRoute(options, "removeAlias", { name, alias, query: { from } });
    },
    deployments: () => callList(options, "deployments"),
    deploy: (name, body) => callRoute(options, "deploy", { name, body }),
    async removeDeployment(name) {
      await callRoute(options, "undeploy", { name });
    },
    rollouts: () => callList(options, "rollouts"),
    rollout: (name) => callRoute(options, "rollout", { name }),
    startRollout: (body) => callRoute(options, "startRollout", { body }),
    orderRollout: (name, order, { reason, full }) =>
      callRoute(options, `${order}Rollout`, { name, body: { reason, ...(full && { full }) } }),
    datasets: () => callList(options, "datasets"),
    dataset: (name, version) => callRoute(options, "dataset", { name, version }),
    addDataset: (body) => callRoute(options, "addDataset", { body }),
    async removeDataset(name, version) {
      await callRoute(options, "removeDataset", { name, version });
    },
    documents: (filters) => callList(options, "documents", filters),
    document: (kind, name, selector) => callRoute(options, "document", { kind, name, selector }),
    addDocument: (body) => callRoute(options, "addDocument", { body }),
    documentDiff: async (kind, name, selector, other) => {
      const input = { kind, name, selector, query: { with: other } };
      return (await callRoute(options, "documentDiff", input)).differences;
    },
    async removeDocument(kind, name, version) {
      await callRoute(options, "removeDocument", { kind, name, version });
    },
    moveDocumentAlias: (place, alias, body) =>
      callRoute(options, "moveDocumentAlias", { ...place, alias, body }),
    async removeDocumentAlias(place, alias, from) {
      await callRoute(options, "removeDocumentAlias", { ...place, alias, query: { from } });
    },
    createToken: (body) => callRoute(options, "createToken", { body }),
    async revokeToken(id) {
      await callRoute(options, "revokeToken", { id });
    },
    observed: () => callRoute(options, "observed", {}),
    dialBack: (body) => callRoute(options, "dialBack", { body }),
    audit: (wanted) => callList(options, "audit", wanted),
    watch: (name, filters, from) => watchList(options, name, filters, from),
    clusterViews: (signal) => streamClusterViews(options, signal),
  };
}

async function* streamClusterViews(options: ApiConnection, signal: AbortSignal): AsyncGenerator<ClusterView> {
  let view: ClusterView | undefined;
  for await (const { event, data } of streamEvents(options, "clusterEvents", {}, { signal })) {
    if (event === "cluster") view = readEventData(options, clusterViewSchema, data);
    else if (event === "change" && view)
      view = applyClusterChange(view, readEventData(options, clusterChangeSchema, data));
    if (view) yield view;
  }
}
