import { setTimeout as delay } from "node:timers/promises";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { ClusterView, JobView } from "../../../protocol/messages/api.ts";
import type { ApiClient } from "../api-client.ts";

/** Agents beat once a second and each beat changes the view, so a stream this silent has lost its other end. */
const silenceMs = 20_000;
/** The first retry is at once (a restarted proxy); after that the delay doubles up to this. */
const retryDelayMaxMs = 5_000;
/** Generations go on without a coordinator; somebody who watches is told so for this long before we give up. */
const unreachableMaxMs = 120_000;

interface FollowOptions {
  readonly signal: AbortSignal;
  /** Told once an interruption, so that a person knows why nothing moves. */
  readonly note: (line: string) => void;
}

/**
 * The coordinator's views as they come, over as many connections as it takes.
 *
 * @throws RingfoldError COORDINATOR_UNREACHABLE after two minutes without a view; CANCELLED when the signal aborts;
 * whatever the coordinator refuses with and no retry would change
 */
async function* followCluster(api: ApiClient, options: FollowOptions): AsyncGenerator<ClusterView> {
  let lastViewMs = Date.now();
  let failures = 0;
  for (;;) {
    try {
      for await (const view of untilSilent(api, options.signal)) {
        lastViewMs = Date.now();
        failures = 0;
        yield view;
      }
    } catch (cause) {
      options.signal.throwIfAborted();
      const lost = cause instanceof RingfoldError && cause.rule.retryable;
      if (!lost || Date.now() - lastViewMs > unreachableMaxMs) throw cause;
    }
    failures++;
    if (failures === 2) {
      options.note(`no coordinator answers at ${api.baseUrl}; running work goes on, trying again`);
    }
    await pause(failures === 1 ? 0 : Math.min(retryDelayMaxMs, 125 * 2 ** failures), options.signal);
  }
}

/** One connection; a silent one counts as lost. */
async function* untilSilent(api: ApiClient, signal: AbortSignal): AsyncGenerator<ClusterView> {
  const silence = new AbortController();
  const onSilence = (): void =>
    silence.abort(new RingfoldError("REQUEST_TIMEOUT", `nothing from ${api.baseUrl} for ${silenceMs} ms`));
  const timer = setTimeout(onSilence, silenceMs);
  try {
    for await (const view of api.clusterViews(AbortSignal.any([signal, silence.signal]))) {
      timer.refresh();
      yield view;
    }
  } finally {
    clearTimeout(timer);
  }
}

async function pause(delayMs: number, signal: AbortSignal): Promise<void> {
  await delay(delayMs, undefined, { signal }).catch(() => signal.throwIfAborted());
}

/**
 * Waits for the first answer that `read` takes from a view of the cluster, and returns it.
 *
 * @param read undefined: not yet
 */
export async function waitForView<T>(
  api: ApiClient,
  options: FollowOptions,
  read: (view: ClusterView) => T | undefined | Promise<T | undefined>,
): Promise<T> {
  for await (const view of followCluster(api, options)) {
    const answer = await read(view);
    if (answer !== undefined) return answer;
  }
  throw new RingfoldError("INTERNAL", "the stream of views ended without an error");
}

export const hasEnded = (job: JobView): boolean =>
  job.state === "succeeded" || job.state === "failed" || job.state === "cancelled";

/**
 * Follows a job to its end.
 *
 * @param onUpdate called with each new view of the job, the last one included
 * @returns the job as it ended
 * @throws RingfoldError NOT_FOUND when the coordinator no longer knows it, and all that waitForView throws
 */
export const followJob = (
  api: ApiClient,
  jobId: string,
  options: FollowOptions & { readonly onUpdate: (job: JobView) => void },
): Promise<JobView> =>
  waitForView(api, options, async (view) => {
    const job = view.jobs.find(({ id }) => id === jobId) ?? (await api.job(jobId));
    options.onUpdate(job);
    return hasEnded(job) ? job : undefined;
  });
