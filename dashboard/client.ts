import { type ErrorCode, isErrorCode, RingfoldError, toRingfoldError } from "../protocol/errors.ts";
import { limits } from "../protocol/limits.ts";
import { problemSchema } from "../protocol/messages/api.ts";
import { systemClock } from "../protocol/ports.ts";
import { type Connection, followStream, type OpenStream } from "./connection.ts";
import { type Cluster, type CurvePoint, clusterSchema, curveSchema } from "./views.ts";

/** The page's only way to the coordinator. Reading needs no token; steering does. */
export interface Client {
  /** Calls back at most four times a second, until the returned function is called. */
  follow(listener: { onView(view: Cluster): void; onConnection(connection: Connection): void }): () => void;
  /**
   * The loss curve of a job so far, at most `limits.lossCurvePointsMax` points.
   * @throws RingfoldError NOT_FOUND | REQUEST_TIMEOUT | COORDINATOR_UNREACHABLE | MESSAGE_INVALID | CANCELLED
   */
  curve(jobId: string, signal: AbortSignal): Promise<CurvePoint[]>;
  /**
   * One steering action, with the operator's token. The token is the caller's to keep; it is not stored.
   * @throws RingfoldError UNAUTHENTICATED | REQUEST_TIMEOUT | COORDINATOR_UNREACHABLE, or the coordinator's own code
   */
  postJson(path: string, body: unknown, operatorToken: string, signal: AbortSignal): Promise<unknown>;
}

/** @param base URL of the coordinator's root, with the slash at its end */
export function createClient(base: URL): Client {
  const open: OpenStream = ({ onData, onFailure }) => {
    const source = new EventSource(new URL("api/events", base));
    source.addEventListener("cluster", (event) => onData(event.data));
    source.addEventListener("error", onFailure);
    return () => source.close();
  };

  const request = async (path: string, init: RequestInit, signal: AbortSignal): Promise<unknown> => {
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(limits.requestTimeoutMs)]);
    try {
      const response = await fetch(new URL(path, base), { ...init, signal: deadline });
      const body = parseJson(await response.text());
      if (!response.ok) throw problemError(response.status, body);
      return body;
    } catch (cause) {
      throw toRingfoldError(cause, "COORDINATOR_UNREACHABLE");
    }
  };

  return {
    follow: ({ onView, onConnection }) =>
      followStream({ open, clock: systemClock, read: readCluster, onView, onConnection }),
    curve: async (jobId, signal) => {
      const body = await request(`api/jobs/${encodeURIComponent(jobId)}/curve`, {}, signal);
      const points = curveSchema.safeParse(body);
      if (points.success) return points.data;
      throw new RingfoldError("MESSAGE_INVALID", `the curve of ${jobId} is not one`, { jobId });
    },
    postJson: (path, body, operatorToken, signal) =>
      request(
        path,
        {
          method: "POST",
          headers: { authorization: `Bearer ${operatorToken}`, "content-type": "application/json" },
          body: JSON.stringify(body),
        },
        signal,
      ),
  };
}

const readCluster = (text: string): Cluster | undefined => clusterSchema.safeParse(parseJson(text)).data;

/** Undefined for what is not JSON, such as a proxy's HTML error page. */
function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function problemError(status: number, body: unknown): RingfoldError {
  const problem = problemSchema.safeParse(body);
  if (!problem.success) {
    return new RingfoldError("COORDINATOR_UNREACHABLE", `the coordinator answered ${status}`, { status });
  }
  const code: ErrorCode = isErrorCode(problem.data.code) ? problem.data.code : "INTERNAL";
  return new RingfoldError(code, problem.data.detail, { status, remedy: problem.data.remedy });
}
