import { useEffect, useState } from "preact/hooks";
import type { Client } from "./client.ts";
import type { Connection } from "./connection.ts";
import { Deployments } from "./panels/deployments.tsx";
import { Events } from "./panels/events.tsx";
import { Header } from "./panels/header.tsx";
import { Jobs } from "./panels/jobs.tsx";
import { Peers } from "./panels/peers.tsx";
import { StaleNotice } from "./panels/stale-notice.tsx";
import { Sweeps } from "./panels/sweeps.tsx";
import { Versions } from "./panels/versions.tsx";
import { type Cluster, sortJobs } from "./views.ts";

interface Snapshot {
  readonly cluster: Cluster;
  /** By the browser's clock; `cluster.nowMs` is by the coordinator's. */
  readonly receivedAtMs: number;
}

/** The whole page: one live view in, every panel out. */
export function App({ client }: { client: Client }) {
  const [snapshot, setSnapshot] = useState<Snapshot | null>(null);
  const [connection, setConnection] = useState<Connection>({ phase: "connecting", sinceMs: Date.now() });
  const browserMs = useTick(1_000);
  const chosenJobId = useChosenJob();

  useEffect(
    () =>
      client.follow({
        onView: (cluster) => setSnapshot({ cluster, receivedAtMs: Date.now() }),
        onConnection: setConnection,
      }),
    [client],
  );
  useTitle(snapshot?.cluster ?? null);

  const elapsedMs = Math.max(0, browserMs - connection.sinceMs);
  if (snapshot === null) {
    return (
      <>
        <Header cluster={null} connection={connection} nowMs={browserMs} />
        <main class="page-empty">
          <StaleNotice connection={connection} elapsedMs={elapsedMs} empty />
        </main>
      </>
    );
  }
  const { cluster, receivedAtMs } = snapshot;
  // Ages are told by the coordinator's clock, carried on by ours: a laptop's clock may be minutes off.
  const nowMs = cluster.nowMs + Math.max(0, browserMs - receivedAtMs);
  const jobs = sortJobs(cluster.jobs);
  const job = jobs.find(({ id }) => id === chosenJobId) ?? jobs[0];
  return (
    <>
      <Header cluster={cluster} connection={connection} nowMs={nowMs} />
      <StaleNotice connection={connection} elapsedMs={elapsedMs} />
      <main class="page" data-stale={connection.phase !== "live"}>
        <div class="column">
          <Jobs
            jobs={jobs}
            openJobId={job?.id ?? null}
            peers={cluster.peers}
            client={client}
            liveSinceMs={connection.phase === "live" ? connection.sinceMs : null}
            nowMs={nowMs}
          />
          <Events events={cluster.events} />
        </div>
        <div class="column">
          <Peers peers={cluster.peers} nowMs={nowMs} />
          <Deployments
            deployments={cluster.deployments}
            rollouts={cluster.rollouts}
            versions={cluster.versions}
            peers={cluster.peers}
          />
          <Sweeps sweeps={cluster.sweeps} nowMs={nowMs} />
          <Versions versions={cluster.versions} nowMs={nowMs} />
        </div>
      </main>
    </>
  );
}

/** The browser's clock, read again every `everyMs` for as long as the component is shown. */
function useTick(everyMs: number): number {
  const [nowMs, setNowMs] = useState(Date.now);
  useEffect(() => {
    const timer = setInterval(() => setNowMs(Date.now()), everyMs);
    return () => clearInterval(timer);
  }, [everyMs]);
  return nowMs;
}

/** The job in the address (`#job-12`), so that a job can be linked to; kept while the address points elsewhere. */
function useChosenJob(): string | null {
  const inAddress = () => /^#(job-\d+)$/.exec(location.hash)?.[1] ?? null;
  const [jobId, setJobId] = useState(inAddress);
  useEffect(() => {
    const follow = () => setJobId((before) => inAddress() ?? before);
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  return jobId;
}

/** Progress of the first active job in the tab's title, for a tab in the background. */
function useTitle(cluster: Cluster | null): void {
  const job = cluster?.jobs.find(({ state }) => state === "running" || state === "reforming");
  const progress = job?.progress;
  const share = progress?.totalSteps ? Math.floor((100 * progress.step) / progress.totalSteps) : null;
  const title = [share === null ? null : `${share}% ${job?.spec.name}`, cluster?.name, "Ringfold"]
    .filter((part) => part !== null && part !== undefined)
    .join(" · ");
  useEffect(() => {
    document.title = title;
  }, [title]);
}
