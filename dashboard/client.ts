import { askRoute, routeUrl } from "../protocol/api/client.ts";
import { Coordinators } from "../protocol/api/coordinators.ts";
import { RingfoldError } from "../protocol/errors.ts";
import { parseJson } from "../protocol/http.ts";
import { type Readiness, readinessSchema } from "../protocol/messages/api.ts";
import { systemClock } from "../protocol/ports.ts";
import { type ClusterEvent, clusterReader } from "./cluster-reader.ts";
import { type Connection, followStream, type OpenStream } from "./connection.ts";
import { Elsewhere } from "./elsewhere.ts";
import { type Cluster, type CurvePoint, curveSchema } from "./views.ts";

/** The page's only way to the coordinator. It only reads, which needs no token. */
export interface Client {
  /** Calls back at most four times a second, until the returned function is called. */
  follow(listener: { onView(view: Cluster): void; onConnection(connection: Connection): void }): () => void;
  /**
   * The loss curve of a job so far, at most `limits.lossCurvePointsMax` points.
   * @throws RingfoldError NOT_FOUND | REQUEST_TIMEOUT | COORDINATOR_UNREACHABLE | MESSAGE_INVALID | CANCELLED
   */
  curve(jobId: string, signal: AbortSignal): Promise<CurvePoint[]>;
}

/**
 * @param baseUrl of the coordinator's root
 * @param go leaves for the page of another coordinator
 */
export function createClient(baseUrl: string, go: (url: string) => void): Client {
  const elsewhere = new Elsewhere(baseUrl, { readiness: () => readReadiness(baseUrl), reaches, go });
  const open: OpenStream<ClusterEvent> = ({ onData, onFailure }) => {
    const source = new EventSource(routeUrl(baseUrl, "clusterEvents", {}));
    for (const kind of ["cluster", "change"] as const)
      source.addEventListener(kind, ({ data }: MessageEvent<string>) => onData({ kind, data }));
    source.addEventListener("error", () => {
      onFailure();
      void elsewhere.look();
    });
    return () => source.close();
  };

  const coordinators = new Coordinators(baseUrl);
  return {
    follow: ({ onView, onConnection }) =>
      followStream({
        ...{ open, clock: systemClock, read: clusterReader(), onView },
        onConnection: (connection) => {
          if (connection.phase === "live") void elsewhere.remember();
          onConnection(connection);
        },
      }),
    curve: async (jobId, signal) => {
      const points = curveSchema.safeParse(await askRoute({ coordinators, signal }, "curve", { id: jobId }));
      if (points.success) return points.data;
      throw new RingfoldError("MESSAGE_INVALID", `the curve of ${jobId} is not one`, { jobId });
    },
  };
}

const probeTimeoutMs = 2_000;

/** What this page's own coordinator says of itself; undefined when it does not answer. Who stands by answers with 503. */
async function readReadiness(baseUrl: string): Promise<Readiness | undefined> {
  const signal = AbortSignal.timeout(probeTimeoutMs);
  const text = await fetch(routeUrl(baseUrl, "ready", {}), { signal }).then(
    (response) => response.text(),
    () => "",
  );
  return readinessSchema.safeParse(parseJson(text)).data;
}

/** Whether anybody answers there. Other coordinators let no page of another origin read what they say. */
const reaches = (url: string): Promise<boolean> =>
  fetch(routeUrl(url, "live", {}), { mode: "no-cors", signal: AbortSignal.timeout(probeTimeoutMs) }).then(
    () => true,
    () => false,
  );
