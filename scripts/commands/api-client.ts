import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import {
  type ApiConnection,
  callList,
  callRoute,
  foreignAnswer,
  openEvents,
  transportError,
} from "../../protocol/api/client.ts";
import type { InputOfRoute } from "../../protocol/api/route.ts";
import type { RouteName, Routes } from "../../protocol/api/routes.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import { parseJson } from "../../protocol/http.ts";
import type { JobSpec } from "../../protocol/job-spec.ts";
import { limits } from "../../protocol/limits.ts";
import {
  type ClusterView,
  clusterViewSchema,
  type DeploymentView,
  type DeployRequest,
  type JobView,
  type PeerView,
  type ReachabilityRequest,
  type ReachabilityView,
  type SteerAction,
  type TokenRequest,
  type VersionDetail,
  type VersionView,
} from "../../protocol/messages/api.ts";
import { type AuditEntry, auditEntrySchema } from "../../protocol/messages/audit.ts";
import type { DatasetDetail, DatasetRequest, DatasetView } from "../../protocol/messages/dataset.ts";
import type { SweepSummary, SweepView } from "../../protocol/messages/sweep.ts";
import type { SweepSpec } from "../../protocol/sweep-spec.ts";
import { type CommandContext, ringfoldHome } from "./command.ts";
import { readEventStream, type ServerEvent } from "./follow/event-stream.ts";

/**
 * The coordinator's HTTP API (protocol/api/routes.ts), typed: each answer is validated, each request ends within
 * `limits.requestTimeoutMs` or when the signal aborts.
 *
 * Every method throws RingfoldError COORDINATOR_UNREACHABLE | REQUEST_TIMEOUT | CANCELLED | MESSAGE_INVALID, or the
 * code that the coordinator answered with.
 */
export interface ApiClient {
  /** Where the coordinator is, as a person wrote it. */
  readonly baseUrl: string;
  /** Whether there is an operator token to show. */
  readonly isOperator: boolean;
  cluster(): Promise<ClusterView>;
  peers(): Promise<PeerView[]>;
  jobs(): Promise<JobView[]>;
  job(id: string): Promise<JobView>;
  submitJob(spec: JobSpec): Promise<JobView>;
  cancelJob(id: string): Promise<JobView>;
  steerJob(id: string, action: SteerAction, reason: string): Promise<JobView>;
  sweeps(): Promise<SweepSummary[]>;
  sweep(id: string): Promise<SweepView>;
  submitSweep(spec: SweepSpec): Promise<SweepView>;
  cancelSweep(id: string, reason: string): Promise<SweepView>;
  models(): Promise<VersionView[]>;
  version(name: string, version: number): Promise<VersionDetail>;
  deployments(): Promise<DeploymentView[]>;
  deploy(name: string, request: DeployRequest): Promise<DeploymentView>;
  removeDeployment(name: string): Promise<void>;
  datasets(): Promise<DatasetView[]>;
  dataset(name: string, version: number): Promise<DatasetDetail>;
  addDataset(request: DatasetRequest): Promise<DatasetDetail>;
  removeDataset(name: string, version: number): Promise<void>;
  createToken(request: TokenRequest): Promise<string>;
  /** Asks the coordinator to dial this machine. */
  dialBack(request: ReachabilityRequest): Promise<ReachabilityView>;
  /** The log of decisions. */
  audit(wanted: AuditFilter): Promise<AuditEntry[]>;
  /** The same from the entry after `after` on (an `id`), and what is decided from now on. */
  decisions(wanted: AuditFilter, after: string, signal: AbortSignal): AsyncGenerator<Decisions>;
  /** The coordinator's view, now and after each change, until the connection or `signal` ends. */
  clusterViews(signal: AbortSignal): AsyncGenerator<ClusterView>;
}

export interface AuditFilter {
  readonly sinceMs: number;
  readonly job?: string;
}

/** May be empty, when only time has passed. */
interface Decisions {
  readonly entries: readonly AuditEntry[];
  readonly id: string;
}

/** The client for a command: address, token and signal from its context. */
export async function connectApi({ io, common, signal }: CommandContext): Promise<ApiClient> {
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

export function createApiClient(options: ApiConnection): ApiClient {
  return {
    baseUrl: options.baseUrl,
    isOperator: options.operatorToken !== undefined,
    cluster: () => callRoute(options, "cluster", {}),
    peers: () => callList(options, "peers"),
    jobs: () => callList(options, "jobs"),
    job: (id) => callRoute(options, "job", { id }),
    submitJob: (body) => callRoute(options, "submitJob", { body }),
    cancelJob: (id) => callRoute(options, "cancelJob", { id, body: {} }),
    steerJob: (id, action, reason) => callRoute(options, `${action}Job`, { id, body: { reason } }),
    sweeps: () => callList(options, "sweeps"),
    sweep: (id) => callRoute(options, "sweep", { id }),
    submitSweep: ({ job, search }) => callRoute(options, "submitSweep", { body: { ...job, search } }),
    cancelSweep: (id, reason) => callRoute(options, "cancelSweep", { id, body: { reason } }),
    models: () => callList(options, "models"),
    version: (name, version) => callRoute(options, "model", { name, version }),
    deployments: () => callList(options, "deployments"),
    deploy: (name, body) => callRoute(options, "deploy", { name, body }),
    async removeDeployment(name) {
      await callRoute(options, "undeploy", { name });
    },
    datasets: () => callList(options, "datasets"),
    dataset: (name, version) => callRoute(options, "dataset", { name, version }),
    addDataset: (body) => callRoute(options, "addDataset", { body }),
    async removeDataset(name, version) {
      await callRoute(options, "removeDataset", { name, version });
    },
    createToken: async (body) => (await callRoute(options, "createToken", { body })).token,
    dialBack: (body) => callRoute(options, "dialBack", { body }),
    audit: (wanted) => callList(options, "audit", wanted),
    decisions: (wanted, after, signal) => streamDecisions(options, wanted, after, signal),
    clusterViews: (signal) => streamClusterViews(options, signal),
  };
}

async function* streamClusterViews(options: ApiConnection, signal: AbortSignal): AsyncGenerator<ClusterView> {
  for await (const { event, data } of streamEvents(options, "clusterEvents", {}, signal))
    if (event === "cluster") yield read(options, clusterViewSchema, data);
}

const decidedSchema = z.object({ put: z.array(auditEntrySchema) });

async function* streamDecisions(
  options: ApiConnection,
  query: AuditFilter,
  after: string,
  signal: AbortSignal,
): AsyncGenerator<Decisions> {
  const lastEventId = after === "" ? undefined : after;
  for await (const { event, data, id } of streamEvents(options, "audit", { query }, signal, lastEventId))
    yield { entries: event === "change" ? read(options, decidedSchema, data).put : [], id };
}

async function* streamEvents<Name extends RouteName>(
  options: ApiConnection,
  name: Name,
  input: InputOfRoute<Routes[Name]>,
  streamSignal: AbortSignal,
  lastEventId?: string,
): AsyncGenerator<ServerEvent> {
  const connection = { ...options, signal: AbortSignal.any([options.signal, streamSignal]) };
  try {
    yield* readEventStream(await openEvents(connection, name, input, lastEventId));
  } catch (cause) {
    throw transportError(cause, connection, limits.requestTimeoutMs);
  }
}

/** @throws RingfoldError MESSAGE_INVALID */
function read<T>({ baseUrl }: ApiConnection, schema: z.ZodType<T>, data: string): T {
  const result = schema.safeParse(parseJson(data));
  if (result.success) return result.data;
  throw foreignAnswer(baseUrl, z.prettifyError(result.error));
}
