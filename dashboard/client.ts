import { askRoute, routeUrl } from "../protocol/api/client.ts";
import { RingfoldError } from "../protocol/errors.ts";
import { parseJson } from "../protocol/http.ts";
import { systemClock } from "../protocol/ports.ts";
import { type Connection, followStream, type OpenStream } from "./connection.ts";
import { type Cluster, type CurvePoint, clusterSchema, curveSchema } from "./views.ts";

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

/** @param baseUrl of the coordinator's root */
export function createClient(baseUrl: string): Client {
  const open: OpenStream = ({ onData, onFailure }) => {
    const source = new EventSource(routeUrl(baseUrl, "clusterEvents", {}));
    source.addEventListener("cluster", (event) => onData(event.data));
    source.addEventListener("error", onFailure);
    return () => source.close();
  };

  return {
    follow: ({ onView, onConnection }) =>
      followStream({ open, clock: systemClock, read: readCluster, onView, onConnection }),
    curve: async (jobId, signal) => {
      const points = curveSchema.safeParse(await askRoute({ baseUrl, signal }, "curve", { id: jobId }));
      if (points.success) return points.data;
      throw new RingfoldError("MESSAGE_INVALID", `the curve of ${jobId} is not one`, { jobId });
    },
  };
}

const readCluster = (text: string): Cluster | undefined => clusterSchema.safeParse(parseJson(text)).data;
