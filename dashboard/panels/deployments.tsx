import type { Deployment, Peer, Rollout, Version } from "../views.ts";
import { Empty, Panel } from "./panel.tsx";
import { PeerName } from "./peer-name.tsx";
import { RolloutLine } from "./rollout-line.tsx";
import { countStates, StateBadge } from "./state-badge.tsx";

interface DeploymentsProps {
  readonly deployments: readonly Deployment[];
  readonly rollouts: readonly Rollout[];
  readonly versions: readonly Version[];
  readonly peers: readonly Peer[];
}

/** What is being served: for each deployment its shards, and for each shard the peers that hold a replica. */
export function Deployments({ deployments, rollouts, versions, peers }: DeploymentsProps) {
  const rolloutOf = ({ name, live }: Deployment) =>
    live ? rollouts.find((rollout) => rollout.name === name) : undefined;
  const newest = versions.reduce<Version | null>(
    (best, version) => (best === null || version.createdAtMs > best.createdAtMs ? version : best),
    null,
  );
  return (
    <Panel
      id="deployments"
      title="Deployments"
      summary={countStates(deployments, ["ready", "loading", "degraded", "unavailable"])}
    >
      {deployments.length === 0 ? (
        newest ? (
          <Empty command={`ringfold deploy ${newest.name}@${newest.version}`}>Nothing is served yet.</Empty>
        ) : (
          <Empty>Nothing is served yet. Train a version first, then deploy it.</Empty>
        )
      ) : (
        <ul class="deployments">
          {deployments.map((deployment) => (
            <DeploymentItem
              key={deployment.deployment}
              deployment={deployment}
              rollout={rolloutOf(deployment)}
              peers={peers}
            />
          ))}
        </ul>
      )}
    </Panel>
  );
}

interface DeploymentItemProps {
  readonly deployment: Deployment;
  /** The last one of its name, beside the live deployment. */
  readonly rollout: Rollout | undefined;
  readonly peers: readonly Peer[];
}

const DeploymentItem = ({ deployment, rollout, peers }: DeploymentItemProps) => (
  <li
    data-testid="deployment-row"
    data-deployment={deployment.name}
    data-live={String(deployment.live)}
    data-state={deployment.state}
  >
    <div class="deployment-header">
      <h3 class="clip">
        {deployment.name}@{deployment.version}
      </h3>
      <StateBadge state={deployment.state} />
      {deployment.live ? null : <span class="muted">{expectation(deployment)}</span>}
      <span class="muted">
        {deployment.shardCount} {deployment.shardCount === 1 ? "shard" : "shards"} × {deployment.replicaCount}{" "}
        {deployment.replicaCount === 1 ? "replica" : "replicas"} · revision {deployment.revision}
      </span>
    </div>
    <p class="reason" aria-live="polite">
      {deployment.reason}
    </p>
    {rollout ? <RolloutLine rollout={rollout} /> : null}
    <table class="shards">
      <caption class="visually-hidden">Replicas of each shard of {deployment.name}</caption>
      <tbody>
        {deployment.shards.map((shard) => (
          <tr key={shard.shardIndex}>
            <th scope="row">
              Shard {shard.shardIndex}
              <span class="second">
                layers {shard.fromLayer}–{shard.toLayer - 1}
              </span>
            </th>
            <td>
              <ul class="replicas">
                {shard.replicas.map(({ peerId, ready }) => (
                  <li key={peerId} data-testid="replica" data-ready={String(ready)} data-peer-id={peerId}>
                    <PeerName peers={peers} peerId={peerId} />
                    <span class="second">{ready ? "ready" : "not ready"}</span>
                  </li>
                ))}
                {Array.from(
                  { length: Math.max(0, deployment.replicaCount - shard.replicas.length) },
                  (_, index) => (
                    <li key={`missing-${index}`} class="missing">
                      <span class="peer-name">no peer</span>
                      <span class="second">unplaced</span>
                    </li>
                  ),
                )}
              </ul>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  </li>
);

const expectation = ({ weight }: Deployment): string =>
  weight === null ? "takes over when it is ready" : `candidate, gets ${weight}% of the requests`;
