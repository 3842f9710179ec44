import { parseJson } from "../protocol/http.ts";
import { applyClusterChange } from "../protocol/messages/cluster-change.ts";
import { type Cluster, clusterChangeSchema, clusterSchema } from "./views.ts";

/** Everything, or what has changed since the event before. */
export interface ClusterEvent {
  readonly kind: "cluster" | "change";
  readonly data: string;
}

/** Each stream begins with everything. What cannot be understood is not gone on from. */
export function clusterReader(): (told: ClusterEvent) => Cluster | undefined {
  let view: Cluster | undefined;
  return ({ kind, data }) => {
    if (kind === "cluster") view = clusterSchema.safeParse(parseJson(data)).data;
    else if (view) {
      const change = clusterChangeSchema.safeParse(parseJson(data)).data;
      view = change && applyClusterChange(view, change);
    }
    return view;
  };
}
