import type { Client } from "../client.ts";
import type { Job, Peer } from "../views.ts";
import { JobDetail } from "./job-detail.tsx";
import { JobNumbers } from "./job-numbers.tsx";
import { Empty, Panel } from "./panel.tsx";
import { countStates, StateBadge } from "./state-badge.tsx";

/** Enough for a day's work at one glance; `ringfold jobs` lists all. */
const shownMax = 40;
const stateOrder = [
  "running",
  "reforming",
  "preparing",
  "waiting",
  "paused",
  "succeeded",
  "cancelled",
  "failed",
];

interface JobsProps {
  /** In the order in which they are shown. */
  readonly jobs: readonly Job[];
  readonly openJobId: string | null;
  readonly peers: readonly Peer[];
  readonly client: Client;
  readonly liveSinceMs: number | null;
  /** By the coordinator's clock. */
  readonly nowMs: number;
}

/** All jobs, one of them opened. A job is opened by its link, which also names it in the page's address. */
export function Jobs({ jobs, openJobId, peers, client, liveSinceMs, nowMs }: JobsProps) {
  const shown = jobs.filter((job, index) => index < shownMax || job.id === openJobId);
  const hidden = jobs.length - shown.length;
  return (
    <Panel id="jobs" title="Jobs" summary={countStates(jobs, stateOrder)}>
      {jobs.length === 0 ? <Empty command="ringfold train JOB.yaml">No jobs yet.</Empty> : null}
      {shown.map((job) => {
        const open = job.id === openJobId;
        return (
          <article
            key={job.id}
            class={open ? "job open" : "job"}
            data-testid="job-row"
            data-job-id={job.id}
            data-state={job.state}
            aria-labelledby={`${job.id}-name`}
          >
            <header class="job-header">
              <h3 id={`${job.id}-name`} class="clip">
                <a href={`#${job.id}`} aria-current={open ? "true" : undefined}>
                  {job.spec.name}
                </a>{" "}
                <span class="muted">{job.id}</span>
              </h3>
              <StateBadge state={job.state} testId="job-state" />
            </header>
            {open ? (
              <JobDetail job={job} peers={peers} client={client} liveSinceMs={liveSinceMs} nowMs={nowMs} />
            ) : (
              <JobNumbers job={job} />
            )}
          </article>
        );
      })}
      {hidden > 0 ? (
        <Empty command="ringfold jobs">
          {hidden} older {hidden === 1 ? "job is" : "jobs are"} not shown.
        </Empty>
      ) : null}
    </Panel>
  );
}
