/**
 * Everything that the world can do to us, by code. A broken invariant is an `assert`, never one of these.
 *
 * `exit` follows sysexits(3): 64 usage, 65 data, 66 no input, 69 unavailable, 70 software, 71 system, 73 cannot create,
 * 74 I/O, 75 temporary, 76 protocol, 77 permission, 78 configuration. 130 is an interrupt, 1 a job that failed.
 */
interface ErrorRule {
  readonly retryable: boolean;
  readonly blame: "self" | "peer" | "caller";
  readonly http: 400 | 401 | 403 | 404 | 405 | 409 | 412 | 413 | 422 | 429 | 500 | 502 | 503 | 504;
  readonly exit: number;
  /** What a person does next; `data.remedy` of one error overrides it. */
  readonly remedy: string;
}

const rule = (
  blame: ErrorRule["blame"],
  http: ErrorRule["http"],
  exit: number,
  remedy: string,
  retryable = false,
): ErrorRule => ({ blame, http, exit, remedy, retryable });

export const errorRules = {
  // what a person typed or wrote
  USAGE: rule("caller", 400, 64, "See --help."),
  CONFIG_INVALID: rule("caller", 400, 78, "Correct the setting that the message names."),
  JOB_INVALID: rule(
    "caller",
    422,
    65,
    "Correct the lines that the message names; docs/job-file.md lists every key.",
  ),
  FILE_NOT_FOUND: rule("caller", 400, 66, "Check the path."),
  MODEL_TOO_LARGE: rule(
    "caller",
    422,
    65,
    "Set a smaller microBatchSize or batchSize, cut the model into `stages` on several agents, or give it more memory.",
  ),
  DATA_INVALID: rule("caller", 422, 65, "Check that the files are what the job file says they are."),
  DATA_MISMATCH: rule("caller", 422, 65, "Give every agent the same data files."),
  REQUEST_INVALID: rule("caller", 400, 65, "Correct the request; the message names the field."),
  NOT_FOUND: rule("caller", 404, 66, "List what exists with `ringfold jobs`, `models` or `peers`."),
  METHOD_NOT_ALLOWED: rule("caller", 405, 76, "Use a method that the header Allow names; see /openapi.json."),
  CONFLICT: rule("caller", 409, 65, "Read the present state and try again."),
  PRECONDITION_FAILED: rule("caller", 412, 65, "Read the present state; its ETag goes into If-Match."),
  KEY_REUSED: rule("caller", 422, 65, "Give each request its own Idempotency-Key, best a UUID."),
  KEY_IN_USE: rule("caller", 409, 75, "The first one is still under way; send it again in a moment.", true),
  PAYLOAD_TOO_LARGE: rule("caller", 413, 65, "Send less in one request."),
  // who may come in
  TOKEN_INVALID: rule("caller", 401, 77, "Make a new one with `ringfold token` where the coordinator runs."),
  TOKEN_EXPIRED: rule("caller", 401, 77, "Make a new one with `ringfold token` where the coordinator runs."),
  UNAUTHENTICATED: rule(
    "caller",
    401,
    77,
    "Give the operator token (--operator-token or RINGFOLD_OPERATOR_TOKEN).",
  ),
  NOT_A_MEMBER: rule("peer", 403, 77, "Join the cluster with a token first."),
  DUPLICATE_IDENTITY: rule("peer", 409, 78, "Two agents use one identity: give each its own data folder."),
  MEMBER_REMOVED: rule(
    "peer",
    403,
    77,
    "Delete identity.key and the membership in its data folder, and join it anew with a token.",
  ),
  PROTOCOL_RANGE: rule("peer", 409, 76, "Run the same major release of Ringfold on both machines."),
  // reaching others
  PORT_IN_USE: rule("self", 500, 73, "Choose another port, or end the program that holds it."),
  COORDINATOR_UNREACHABLE: rule(
    "peer",
    503,
    69,
    "Start one with `ringfold coordinator`, or name its address.",
    true,
  ),
  COORDINATOR_STANDBY: rule("peer", 503, 69, "Ask the coordinator that leads.", true),
  PEER_UNREACHABLE: rule("peer", 503, 69, "Check that the peer runs and that its port is open.", true),
  REQUEST_TIMEOUT: rule("peer", 504, 75, "The peer is slow or gone; try again.", true),
  PEER_REFUSED: rule("peer", 502, 76, "The message says why the peer refused."),
  MESSAGE_INVALID: rule("peer", 400, 76, "Run the same release of Ringfold on both machines."),
  MESSAGE_TOO_LARGE: rule("peer", 413, 76, "Run the same release of Ringfold on both machines."),
  OVERLOADED: rule("self", 429, 75, "Wait a moment and try again.", true),
  STALE_TERM: rule("peer", 409, 75, "A newer coordinator has taken over; ask that one.", true),
  // the ring
  STALE_GENERATION: rule("peer", 409, 75, "The ring has already re-formed; nothing to do.", true),
  RING_BROKEN: rule("peer", 503, 75, "The ring re-forms by itself among the agents that are left.", true),
  HOP_TIMEOUT: rule("peer", 504, 75, "The neighbour stalled; the ring re-forms without it.", true),
  PEER_IDENTITY: rule(
    "peer",
    403,
    77,
    "Another peer answered at that address; check for copied data folders.",
  ),
  HELLO_REPLAYED: rule(
    "peer",
    403,
    77,
    "Somebody repeats what was recorded on another connection; find out who is in this network.",
  ),
  NOT_FINITE: rule("self", 422, 65, "Lower the learning rate, or look at the data of the named step."),
  HASH_DIVERGED: rule("self", 500, 70, "Report this: replicas must never differ."),
  // the rest of the life of a job and a version
  ENGINE_UNAVAILABLE: rule(
    "self",
    503,
    69,
    "Choose another engine with --engine, or install what is missing.",
  ),
  JOB_FAILED: rule("self", 500, 1, "The message says why; correct that and submit the job again."),
  TRAINER_DIED: rule("self", 500, 71, "The trainer process ended; its log says why."),
  SCRIPT_FAILED: rule("caller", 422, 1, "Read the log that the message names, and correct the script."),
  SCRIPT_SILENT: rule("caller", 422, 65, "Have the script call ringfold.steps() once its data is loaded."),
  SCRIPT_STALLED: rule(
    "self",
    500,
    71,
    "Look where it stands: the end of the log that the message names has all its threads. The job goes on from its checkpoint.",
  ),
  SHARED_MEMORY_FULL: rule(
    "self",
    503,
    69,
    "Give the agent more shared memory: `docker run --shm-size=2g`, or in Kubernetes a volume of medium Memory at /dev/shm.",
  ),
  SCRIPT_REFUSED: rule("self", 503, 77, "Start agents that may run scripts: ringfold agent --allow-torch."),
  INSUFFICIENT_WORKERS: rule("self", 503, 75, "Start more agents, or lower workers.min.", true),
  ARTEFACT_MISSING: rule("peer", 404, 69, "No reachable agent holds it; start one that does."),
  ARTEFACT_CORRUPT: rule("peer", 502, 74, "Another copy is fetched; if none is left, train again."),
  SIGNATURE_INVALID: rule(
    "peer",
    422,
    65,
    "Do not use it: get it anew from the cluster, and find out where it was changed.",
  ),
  NO_REPLICA: rule(
    "self",
    503,
    69,
    "No live replica of a shard; check `ringfold peers` and the deployment.",
    true,
  ),
  STORE_FAILED: rule("self", 500, 74, "Check the disk of the data folder: space, permissions, errors."),
  STORE_DENIED: rule("self", 500, 77, "Check the user, password and certificates that etcd is to let in."),
  STORE_NEWER: rule(
    "self",
    500,
    78,
    "The store is from a newer release; run that release, or restore a backup.",
  ),
  CANCELLED: rule("caller", 409, 130, "It was cancelled."),
  INTERNAL: rule("self", 500, 70, "This is a defect; please report it with the log."),
} as const satisfies Record<string, ErrorRule>;

export type ErrorCode = keyof typeof errorRules;
export type ErrorData = Readonly<Record<string, string | number | boolean | null | readonly string[]>>;

export const isErrorCode = (value: unknown): value is ErrorCode =>
  typeof value === "string" && Object.hasOwn(errorRules, value);

/**
 * The one error class. `message` names what and where in one sentence; `data` holds the same for programs.
 * The wire carries code, message and data, never a stack.
 */
export class RingfoldError extends Error {
  override readonly name = "RingfoldError";
  readonly code: ErrorCode;
  readonly data: ErrorData;

  constructor(code: ErrorCode, message: string, data: ErrorData = {}, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
    this.data = data;
  }

  get rule(): ErrorRule {
    return errorRules[this.code];
  }

  get remedy(): string {
    return typeof this.data.remedy === "string" ? this.data.remedy : this.rule.remedy;
  }
}

/** Throw inside, translate once at the edge: whatever was thrown becomes a RingfoldError with its cause kept. */
export function toRingfoldError(cause: unknown, fallback: ErrorCode = "INTERNAL"): RingfoldError {
  if (cause instanceof RingfoldError) return cause;
  const system = (cause ?? {}) as { code?: unknown; port?: unknown; path?: unknown; message?: unknown };
  if (system.code === "EADDRINUSE") {
    return new RingfoldError("PORT_IN_USE", `port ${String(system.port ?? "?")} is in use`, {}, { cause });
  }
  if (system.code === "ENOENT") {
    return new RingfoldError("FILE_NOT_FOUND", `no such file: ${String(system.path ?? "?")}`, {}, { cause });
  }
  const name = cause instanceof Error ? cause.name : "";
  if (name === "TimeoutError") {
    return new RingfoldError("REQUEST_TIMEOUT", "no answer in time", {}, { cause });
  }
  if (name === "AbortError") return new RingfoldError("CANCELLED", "it was cancelled", {}, { cause });
  return new RingfoldError(fallback, firstLine(cause), {}, { cause });
}

function firstLine(cause: unknown): string {
  if (typeof cause === "object" && !(cause instanceof Error))
    return "something other than an error was thrown";
  const message = cause instanceof Error ? cause.message : String(cause);
  return /^[^\r\n]*/.exec(message)![0];
}
