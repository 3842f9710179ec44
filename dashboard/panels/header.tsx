import { shortPeer } from "../../protocol/ids.ts";
import type { Connection } from "../connection.ts";
import { formatDuration, formatTime } from "../format.ts";
import type { Cluster } from "../views.ts";
import { peerName } from "./peer-name.tsx";
import { StateBadge } from "./state-badge.tsx";

interface HeaderProps {
  readonly cluster: Cluster | null;
  readonly connection: Connection;
  /** By the coordinator's clock. */
  readonly nowMs: number;
}

/** Which cluster this is, who coordinates it, how much there is of everything, and whether the page is live. */
export const Header = ({ cluster, connection, nowMs }: HeaderProps) => (
  <header class="masthead">
    <div class="masthead-title">
      <Mark />
      <h1>
        <span class="product">Ringfold</span>
        {cluster ? (
          <span class="cluster-name" data-testid="cluster-name">
            {cluster.name}
          </span>
        ) : null}
      </h1>
    </div>
    <p class="masthead-connection" role="status">
      <StateBadge state={connection.phase} testId="connection-state" />
      {connection.phase === "lost" || connection.phase === "reconnecting" ? (
        <span class="muted"> since {formatTime(connection.sinceMs)}</span>
      ) : null}
    </p>
    {cluster ? <Coordinator cluster={cluster} nowMs={nowMs} /> : null}
    {cluster ? <Contents cluster={cluster} /> : null}
  </header>
);

const Mark = () => (
  <svg class="mark" viewBox="0 0 32 32" aria-hidden="true">
    <circle class="mark-ring" cx="16" cy="16" r="10" />
    <circle cx="16" cy="6" r="5" />
    <circle cx="24.7" cy="21" r="5" />
    <circle cx="7.3" cy="21" r="5" />
  </svg>
);

const Coordinator = ({ cluster, nowMs }: { cluster: Cluster; nowMs: number }) => {
  const { peerId, term, startedAtMs } = cluster.coordinator;
  const name = peerName(cluster.peers, peerId);
  return (
    <dl class="facts">
      <div>
        <dt>Coordinator</dt>
        <dd title={peerId}>{name === shortPeer(peerId) ? <code>…{name}</code> : name}</dd>
      </div>
      <div>
        <dt>Term</dt>
        <dd data-testid="coordinator-term">{term}</dd>
      </div>
      <div>
        <dt>Up</dt>
        <dd>{formatDuration(Math.max(0, nowMs - startedAtMs))}</dd>
      </div>
      <div>
        <dt>Release</dt>
        <dd>{cluster.release}</dd>
      </div>
    </dl>
  );
};

const Contents = ({ cluster }: { cluster: Cluster }) => {
  const alive = cluster.peers.filter(({ state }) => state === "alive").length;
  const running = cluster.jobs.filter(({ state }) => state === "running").length;
  const ready = cluster.deployments.filter(({ state }) => state === "ready").length;
  const entries = [
    { id: "jobs", title: "Jobs", count: `${running} running` },
    { id: "peers", title: "Peers", count: `${alive} of ${cluster.peers.length} alive` },
    { id: "deployments", title: "Deployments", count: `${ready} of ${cluster.deployments.length} ready` },
    { id: "versions", title: "Versions", count: String(cluster.versions.length) },
    { id: "events", title: "Events", count: null },
  ];
  return (
    <nav class="contents" aria-label="Panels">
      {entries.map(({ id, title, count }) => (
        <a key={id} href={`#${id}`}>
          {title} {count ? <span class="muted">{count}</span> : null}
        </a>
      ))}
    </nav>
  );
};
