import assert from "node:assert/strict";
import type { LayerRange } from "../../protocol/layer-cut.ts";
import {
  type DeploymentChange,
  type Deployments,
  type DeploymentWorld,
  findDeployment,
  placeFirst,
} from "./deployment.ts";
import { newDeployment } from "./placement.ts";

/** What a rollout does with the deployment of its candidate. */
export type CandidateAction =
  | {
      readonly kind: "place";
      readonly deployment: number;
      readonly name: string;
      readonly version: number;
      readonly replicas: number;
      readonly ranges: readonly LayerRange[];
    }
  | { readonly kind: "weigh"; readonly deployment: number; readonly weight: number }
  | { readonly kind: "promote"; readonly deployment: number }
  | { readonly kind: "withdraw"; readonly deployment: number };

/** (all deployments, action, world) -> what changes of them. @throws RingfoldError INSUFFICIENT_WORKERS */
export function changeCandidate(
  deployments: Deployments,
  action: CandidateAction,
  world: DeploymentWorld,
): DeploymentChange {
  if (action.kind === "place") {
    const { deployment, name, version, replicas: replicaCount, ranges } = action;
    const fresh = newDeployment({ deployment, name, version, replicaCount, live: false, weight: 0 }, ranges);
    return { put: [placeFirst(deployments, fresh, world)], removed: [] };
  }
  const record = deployments.get(action.deployment);
  if (action.kind === "withdraw") return { put: [], removed: record ? [record] : [] };
  assert(record?.weight !== undefined, `deployment ${action.deployment} is a candidate`);
  const revision = record.revision + 1;
  if (action.kind === "weigh") return { put: [{ ...record, revision, weight: action.weight }], removed: [] };
  const { weight: _, ...rest } = record;
  const live = findDeployment(deployments, record.name, true);
  return { put: [{ ...rest, revision, live: true }], removed: live ? [live] : [] };
}
