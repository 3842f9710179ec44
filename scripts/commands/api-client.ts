import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { type ErrorCode, type ErrorData, isErrorCode, RingfoldError } from "../../protocol/errors.ts";
import type { JobSpec } from "../../protocol/job-spec.ts";
import { limits } from "../../protocol/limits.ts";
import {
  type ClusterView,
  clusterViewSchema,
  type DeploymentView,
  type DeployRequest,
  deploymentViewSchema,
  type JobView,
  jobViewSchema,
  type PeerView,
  peerViewSchema,
  problemSchema,
  type ReachabilityRequest,
  type ReachabilityView,
  reachabilityViewSchema,
  type SteerAction,
  type TokenRequest,
  type VersionView,
  versionViewSchema,
} from "../../protocol/messages/api.ts";
import { type AuditPage, type AuditQuery, auditPageSchema } from "../../protocol/messages/audit.ts";
import {
  type DatasetDetail,
  type DatasetRequest,
  type DatasetView,
  datasetDetailSchema,
  datasetViewSchema,
} from "../../protocol/messages/dataset.ts";
import { versionManifestSchema } from "../../protocol/messages/model.ts";
import { type CommandContext, ringfoldHome } from "./command.ts";
import { readEventStream } from "./follow/event-stream.ts";
import { connectionFailure, parseJson, resolveUrl } from "./http.ts";

const versionDetailSchema = versionViewSchema.extend({ manifest: versionManifestSchema });
export type VersionDetail = z.infer<typeof versionDetailSchema>;

/**
 * The coordinator's HTTP API (protocol/messages/api.ts), typed: each answer is validated, each request ends within
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
  audit(query: Pick<AuditQuery, "after" | "sinceMs" | "job">): Promise<AuditPage>;
  /** The coordinator's view, now and after each change, until the connection or `signal` ends. */
  clusterViews(signal: AbortSignal): AsyncGenerator<ClusterView>;
}

interface ApiClientOptions {
  readonly baseUrl: string;
  readonly operatorToken?: string | undefined;
  readonly signal: AbortSignal;
  readonly timeoutMs?: number;
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

export function createApiClient(options: ApiClientOptions): ApiClient {
  const call = <T>(method: string, path: string, schema: z.ZodType<T>, body?: unknown): Promise<T> =>
    requestJson(options, { method, path, schema, body });
  const segment = encodeURIComponent;
  return {
    baseUrl: options.baseUrl,
    isOperator: options.operatorToken !== undefined,
    cluster: () => call("GET", "api/cluster", clusterViewSchema),
    peers: () => call("GET", "api/peers", z.array(peerViewSchema)),
    jobs: () => call("GET", "api/jobs", z.array(jobViewSchema)),
    job: (id) => call("GET", `api/jobs/${segment(id)}`, jobViewSchema),
    submitJob: (spec) => call("POST", "api/jobs", jobViewSchema, spec),
    cancelJob: (id) => call("POST", `api/jobs/${segment(id)}/cancel`, jobViewSchema),
    steerJob: (id, action, reason) =>
      call("POST", `api/jobs/${segment(id)}/${action}`, jobViewSchema, { reason }),
    models: () => call("GET", "api/models", z.array(versionViewSchema)),
    version: (name, version) =>
      call("GET", `api/models/${segment(name)}/versions/${version}`, versionDetailSchema),
    deployments: () => call("GET", "api/deployments", z.array(deploymentViewSchema)),
    deploy: (name, request) => call("PUT", `api/deployments/${segment(name)}`, deploymentViewSchema, request),
    async removeDeployment(name) {
      await call("DELETE", `api/deployments/${segment(name)}`, z.object({}));
    },
    datasets: () => call("GET", "api/datasets", z.array(datasetViewSchema)),
    dataset: (name, version) =>
      call("GET", `api/datasets/${segment(name)}/versions/${version}`, datasetDetailSchema),
    addDataset: (request) => call("POST", "api/datasets", datasetDetailSchema, request),
    async removeDataset(name, version) {
      await call("DELETE", `api/datasets/${segment(name)}/versions/${version}`, z.object({}));
    },
    createToken: async (request) =>
      (await call("POST", "api/tokens", z.object({ token: z.string() }), request)).token,
    dialBack: (request) => call("POST", "api/reachability", reachabilityViewSchema, request),
    audit: ({ after, sinceMs, job }) => {
      const query = new URLSearchParams({ after: `${after}`, sinceMs: `${sinceMs}`, ...(job && { job }) });
      return call("GET", `api/audit?${query}`, auditPageSchema);
    },
    clusterViews: (signal) => streamClusterViews(options, signal),
  };
}

interface ApiRequest<T> {
  readonly method: string;
  readonly path: string;
  readonly schema: z.ZodType<T>;
  readonly body?: unknown;
}

async function requestJson<T>(options: ApiClientOptions, request: ApiRequest<T>): Promise<T> {
  const timeoutMs = options.timeoutMs ?? limits.requestTimeoutMs;
  const signal = AbortSignal.any([options.signal, AbortSignal.timeout(timeoutMs)]);
  const hasBody = request.body !== undefined;
  try {
    const response = await fetch(resolveUrl(options.baseUrl, request.path), {
      method: request.method,
      headers: {
        accept: "application/json",
        ...authorization(options),
        ...(hasBody ? { "content-type": "application/json" } : {}),
      },
      ...(hasBody ? { body: JSON.stringify(request.body) } : {}),
      signal,
    });
    const value = parseJson(await response.text());
    if (!response.ok) throw problemError(response, value, options.baseUrl);
    const result = request.schema.safeParse(value);
    if (!result.success) throw foreignAnswer(options.baseUrl, z.prettifyError(result.error));
    return result.data;
  } catch (cause) {
    throw transportError(cause, options, timeoutMs);
  }
}

async function* streamClusterViews(
  options: ApiClientOptions,
  streamSignal: AbortSignal,
): AsyncGenerator<ClusterView> {
  const signal = AbortSignal.any([options.signal, streamSignal]);
  try {
    const response = await fetch(resolveUrl(options.baseUrl, "api/events"), {
      headers: { accept: "text/event-stream", ...authorization(options) },
      signal,
    });
    if (!response.ok) throw problemError(response, parseJson(await response.text()), options.baseUrl);
    if (!response.body) throw foreignAnswer(options.baseUrl, "the event stream is empty");
    for await (const { event, data } of readEventStream(response.body)) {
      if (event !== "cluster") continue;
      const result = clusterViewSchema.safeParse(parseJson(data));
      if (!result.success) throw foreignAnswer(options.baseUrl, z.prettifyError(result.error));
      yield result.data;
    }
  } catch (cause) {
    throw transportError(cause, { ...options, signal }, limits.requestTimeoutMs);
  }
}

const authorization = ({ operatorToken }: ApiClientOptions): Record<string, string> =>
  operatorToken === undefined ? {} : { authorization: `Bearer ${operatorToken}` };

/** RFC 9457 answers carry our code; anything else comes from a proxy or another program and is told by its status. */
function problemError(response: Response, body: unknown, baseUrl: string): RingfoldError {
  const problem = problemSchema.safeParse(body);
  if (problem.success && isErrorCode(problem.data.code)) {
    const { code, detail, data, remedy } = problem.data;
    return new RingfoldError(code, detail, { ...plainData(data), remedy });
  }
  const code = codeOfStatus[response.status] ?? "PEER_REFUSED";
  return new RingfoldError(code, `${baseUrl} answered ${response.status} ${response.statusText}`.trim(), {
    status: response.status,
  });
}

const codeOfStatus: Readonly<Record<number, ErrorCode>> = {
  401: "UNAUTHENTICATED",
  404: "NOT_FOUND",
  413: "PAYLOAD_TOO_LARGE",
  429: "OVERLOADED",
  502: "COORDINATOR_UNREACHABLE",
  503: "COORDINATOR_UNREACHABLE",
  504: "REQUEST_TIMEOUT",
};

const plainValueSchema = z.union([z.string(), z.number(), z.boolean(), z.null(), z.array(z.string())]);

const plainData = (data: Record<string, unknown>): ErrorData =>
  Object.fromEntries(
    Object.entries(data).flatMap(([key, value]) => {
      const plain = plainValueSchema.safeParse(value);
      return plain.success ? [[key, plain.data]] : [];
    }),
  );

const foreignAnswer = (baseUrl: string, detail: string): RingfoldError =>
  new RingfoldError(
    "MESSAGE_INVALID",
    `${baseUrl} does not answer as this release expects: ${detail.split("\n", 2).join(" ")}`,
    { address: baseUrl, remedy: "Check that a Ringfold coordinator of the same release is at that address." },
  );

function transportError(
  cause: unknown,
  { baseUrl, signal }: Pick<ApiClientOptions, "baseUrl" | "signal">,
  timeoutMs: number,
): RingfoldError {
  if (cause instanceof RingfoldError) return cause;
  if (signal.aborted) {
    if (signal.reason instanceof RingfoldError) return signal.reason;
    return new RingfoldError("CANCELLED", "it was cancelled", {}, { cause });
  }
  if (cause instanceof Error && cause.name === "TimeoutError") {
    const message = `no answer from the coordinator at ${baseUrl} within ${timeoutMs / 1_000} s`;
    return new RingfoldError(
      "REQUEST_TIMEOUT",
      message,
      { address: baseUrl, elapsedMs: timeoutMs },
      { cause },
    );
  }
  return new RingfoldError(
    "COORDINATOR_UNREACHABLE",
    `no coordinator answers at ${baseUrl} (${connectionFailure(cause)})`,
    { address: baseUrl },
    { cause },
  );
}
