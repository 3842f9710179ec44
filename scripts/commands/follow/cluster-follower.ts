import { setTimeout as delay } from "node:timers/promises";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { ClusterView, JobView } from "../../../protocol/messages/api.ts";
import type { ApiClient } from "../api-client.ts";

/** Something comes every five seconds, so a stream this silent has lost its other end. */
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

/** One connection to the coordinator, until it ends or the signal aborts. */
type Open<T> = (signal: AbortSignal) => AsyncGenerator<T>;

/**
 * What the coordinator tells, as it comes, over as many connections as it takes.
 *
 * @throws RingfoldError COORDINATOR_UNREACHABLE after two minutes of silence; CANCELLED when the signal aborts;
 * whatever the coordinator refuses with and no retry would change
 */
export async function* followEvents<T>(
  api: ApiClient,
  open: Open<T>,
  options: FollowOptions,
): AsyncGenerator<T> {
  let lastHeardMs = Date.now();
  let failures = 0;
  for (;;) {
    try {
      for await (const told of untilSilent(open, api.baseUrl, options.signal)) {
        lastHeardMs = Date.now();
        failures = 0;
        yield told;
      }
    } catch (cause) {
      options.signal.throwIfAborted();
      const lost = cause instanceof RingfoldError && cause.rule.retryable;
      if (!lost || Date.now() - lastHeardMs > unreachableMaxMs) throw cause;
    }
    failures++;
    if (failures === 2) {
      options.note(`no coordinator answers at ${api.baseUrl}; running work goes on, trying again`);
    }
    await pause(failures === 1 ? 0 : Math.min(retryDelayMaxMs, 125 * 2 ** failures), options.signal);
  }
}

/** One connection; a silent one counts as lost. */
async function* untilSilent<T>(open: Open<T>, baseUrl: string, signal: AbortSignal): AsyncGenerator<T> {
  const silence = new AbortController();
  const onSilence = (): void =>
    silence.abort(new RingfoldError("REQUEST_TIMEOUT", `nothing from ${baseUrl} for ${silenceMs} ms`));
  const timer = setTimeout(onSilence, silenceMs);
  try {
    for await (const told of open(AbortSignal.any([signal, silence.signal]))) {
      timer.refresh();
      yield told;
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
  for await (const view of followEvents(api, api.clusterViews, options)) {
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
 * @throws RingfoldError NOT_FOUND when the coordinator no longer knows it, and all that followEvents throws
 */
export async function followJob(
  api: ApiClient,
  jobId: string,
  options: FollowOptions & { readonly onUpdate: (job: JobView) => void },
): Promise<JobView> {
  let lastEventId: string | undefined;
  const open = (signal: AbortSignal) => api.watch("jobs", { id: jobId }, { signal, lastEventId });
  for await (const { kind, items, id } of followEvents(api, open, options)) {
    lastEventId = id;
    if (kind === "quiet") continue;
    const job = items[0] ?? (await api.job(jobId));
    options.onUpdate(job);
    if (hasEnded(job)) return job;
  }
  throw new RingfoldError("INTERNAL", "the events of a job ended without an error");
}
