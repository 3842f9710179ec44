import type { Selector } from "../protocol/ids.ts";
import type { JobSpec } from "../protocol/job-spec.ts";
import type {
  AliasRequest,
  ClusterView,
  DeploymentView,
  DeployRequest,
  DrainAnswer,
  IssuedToken,
  JobView,
  LossPoint,
  PeerView,
  PruneAnswer,
  PruneRequest,
  SteerAction,
  TokenRequest,
  VersionDetail,
  VersionDifference,
  VersionView,
} from "../protocol/messages/api.ts";
import type { Decider } from "../protocol/messages/audit.ts";
import type {
  DatasetDetail,
  DatasetRequest,
  DatasetView,
  VersionData,
} from "../protocol/messages/dataset.ts";
import type {
  DocumentDetail,
  DocumentKind,
  DocumentView,
  KeyDifference,
} from "../protocol/messages/document.ts";
import type { JobLogs, JobLogsQuery } from "../protocol/messages/job-log.ts";
import type { Lineage } from "../protocol/messages/lineage.ts";
import type { QuotaView } from "../protocol/messages/quota.ts";
import type { RetentionDetail, RetentionView } from "../protocol/messages/retention.ts";
import type { RolloutOrder, RolloutView, RolloutWish } from "../protocol/messages/rollout.ts";
import type { SweepSummary, SweepView } from "../protocol/messages/sweep.ts";
import type { SweepSpec } from "../protocol/sweep-spec.ts";
import type { QuotaRecord } from "./decide/queue-facts.ts";
import type { RetentionRule } from "./decide/retention.ts";
import type { AuditPage, AuditQuery } from "./decision-log.ts";
import type { OfferedDocument } from "./document-desk.ts";
import type { RequestKey } from "./keyed-requests.ts";

/** What the HTTP API offers; everything an operator can see or do. */
export interface Coordinator {
  readonly peerId: string;
  readonly release: string;
  readonly term: number;
  /** Aborted when it closes. */
  readonly closed: AbortSignal;
  view(): ClusterView;
  /** Of the view, what is in none of its lists. */
  now(): Pick<ClusterView, "nowMs" | "events">;
  peers(): PeerView[];
  /** Takes a machine out of service, or puts it back. Whether nothing depends on it any more. */
  drainPeer(peerId: string, drained: boolean, reason: string, key?: RequestKey): Promise<DrainAnswer>;
  /** For good: its identity is refused from then on. */
  removePeer(peerId: string, reason: string, key?: RequestKey): Promise<void>;
  jobs(): JobView[];
  versions(): readonly VersionView[];
  deployments(): DeploymentView[];
  /** Calls back after changes, not more often than people can see. Returns the way to stop. */
  onChange(listener: () => void): () => void;
  job(jobId: string): JobView;
  curve(jobId: string): LossPoint[];
  /** What its script has printed, asked of the agents. */
  jobLogs(jobId: string, query: JobLogsQuery): Promise<JobLogs>;
  /** Of what was decided about a job: changes whenever that does. */
  jobRevision(jobId: string): string;
  /** @param how.config the registered configuration that it is, `name@3` or `name@alias`; without one it is registered as its own */
  submitJob(spec: JobSpec, how?: Submission): Promise<JobView>;
  steerJob(jobId: string, action: SteerAction, how?: Steering, key?: RequestKey): Promise<JobView>;
  /** Its place in the queue from now on. */
  prioritiseJob(jobId: string, priority: number, how?: Steering): Promise<JobView>;
  quotas(): QuotaView[];
  quota(project: string): QuotaView;
  quotaRevision(project: string): string | undefined;
  /** @param ifMatch only if the quota is at one of these revisions */
  setQuota(quota: QuotaRecord, ifMatch?: readonly string[]): Promise<QuotaView>;
  removeQuota(project: string, ifMatch?: readonly string[]): Promise<void>;
  sweeps(): SweepSummary[];
  sweep(sweepId: string): SweepView;
  submitSweep(spec: SweepSpec, how?: Submission): Promise<SweepView>;
  sweepRevision(sweepId: string): string;
  cancelSweep(sweepId: string, how?: Steering, key?: RequestKey): Promise<SweepView>;
  version(name: string, selector: Selector): VersionDetail;
  /** @param other `name@3` or `name@alias` */
  versionDiff(name: string, selector: Selector, other: string): VersionDifference[];
  /** What a prediction needs of the data set that it was trained on. */
  versionData(name: string, selector: Selector): VersionData;
  /** What it comes from, over the versions that it began with, and what became of it. */
  lineage(name: string, selector: Selector): Lineage;
  retentionRules(): RetentionView[];
  retentionRule(model: string): RetentionDetail;
  retentionRevision(model: string): string | undefined;
  /** @param ifMatch only if the rule is at one of these revisions */
  setRetentionRule(rule: RetentionRule, ifMatch?: readonly string[]): Promise<RetentionDetail>;
  removeRetentionRule(model: string, ifMatch?: readonly string[]): Promise<void>;
  moveAlias(name: string, alias: string, request: AliasRequest): Promise<VersionView>;
  /** @param from only if it points to this version now */
  removeAlias(name: string, alias: string, from?: number): Promise<void>;
  removeVersion(name: string, version: number): Promise<void>;
  pruneVersions(name: string, request: PruneRequest): Promise<PruneAnswer>;
  deployment(name: string): DeploymentView;
  /** Of what operators decided about what is served under a name, if anything is. */
  deploymentRevision(name: string): string | undefined;
  deploy(name: string, request: DeployRequest, how?: Condition): Promise<DeploymentView>;
  removeDeployment(name: string, how?: Condition): Promise<void>;
  rollouts(): RolloutView[];
  rollout(name: string): RolloutView;
  rolloutRevision(name: string): string;
  /** @param key makes it happen once, however often it is asked for */
  startRollout(request: RolloutWish, key?: RequestKey): Promise<RolloutView>;
  /** @param how `full`: a promotion to the end, and not to the next step */
  orderRollout(
    name: string,
    order: RolloutOrder,
    how?: Steering & { full?: boolean },
    key?: RequestKey,
  ): Promise<RolloutView>;
  /** A stretch of the log of decisions. */
  audit(query: AuditQuery): AuditPage;
  datasets(): DatasetView[];
  dataset(name: string, version: number): DatasetDetail;
  addDataset(request: DatasetRequest, key?: RequestKey): Promise<DatasetDetail>;
  removeDataset(name: string, version: number): Promise<void>;
  documents(): readonly DocumentView[];
  document(kind: DocumentKind, name: string, selector: Selector): DocumentDetail;
  /** @param other of the same kind, `name@3` or `name@alias` */
  documentDiff(kind: DocumentKind, name: string, selector: Selector, other: string): KeyDifference[];
  addDocument(document: OfferedDocument, key?: RequestKey): Promise<DocumentDetail>;
  removeDocument(kind: DocumentKind, name: string, version: number): Promise<void>;
  moveDocumentAlias(place: DocumentPlace, alias: string, request: AliasRequest): Promise<DocumentView>;
  removeDocumentAlias(place: DocumentPlace, alias: string, from?: number): Promise<void>;
  /** @param who the operator unless told */
  createToken(request: TokenRequest, key?: RequestKey, who?: Decider): Promise<IssuedToken>;
  revokeToken(id: string): Promise<void>;
  /** Why the store takes no writes; undefined while it does. */
  writeTrouble(): Promise<string | undefined>;
  close(): Promise<void>;
}

type DocumentPlace = Pick<OfferedDocument, "kind" | "name">;

interface Submission {
  /** Makes it happen once, however often it is asked for. */
  readonly key?: RequestKey | undefined;
  readonly config?: string | undefined;
}

interface Condition {
  /** Only if it is at one of these revisions; `*` is any. */
  readonly ifMatch?: readonly string[] | undefined;
}

interface Steering extends Condition {
  /** For the log. */
  readonly reason?: string;
}
