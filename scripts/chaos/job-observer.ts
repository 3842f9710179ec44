import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import type { JobView } from "../../protocol/messages/api.ts";
import type { ApiClient } from "../commands/api-client.ts";
import { hasEnded } from "../commands/follow/cluster-follower.ts";

/** Between two looks at the job. A look costs the coordinator about a millisecond of the cores under test. */
const calmIntervalMs = 250;
/** While somebody measures a recovery: the resolution of what they measure. */
export const urgentIntervalMs = 20;
/** A coordinator that is killed is back in a few seconds; a machine this busy measures nothing. */
const unreachableMaxMs = 60_000;

/** A step that is known to have been committed, and when this process knew, in ms since 1970. */
export interface StepSighting {
  readonly atMs: number;
  readonly step: number;
}

interface Waiter {
  readonly accept: (job: JobView) => boolean;
  readonly settle: (outcome: { job: JobView } | { error: RingfoldError }) => void;
}

/** Watches one job through the coordinator's HTTP API and remembers what it has seen of it. */
export class JobObserver {
  /** Every change of the step that rank 0 reported, oldest first. */
  readonly sightings: StepSighting[] = [];
  /** By generation: the most advanced step that was reported while it was the current one. */
  readonly reported = new Map<number, number>();
  readonly #api: ApiClient;
  readonly #jobId: string;
  readonly #onView: (job: JobView) => void;
  readonly #closed = new AbortController();
  readonly #ended: Promise<void>;
  readonly #waiters = new Map<Waiter, { readonly urgent: boolean }>();
  #job: JobView;
  #inheritedStep: number | undefined;
  #error: RingfoldError | undefined;
  #wake: (() => void) | undefined;

  constructor(options: {
    readonly api: ApiClient;
    readonly job: JobView;
    readonly signal: AbortSignal;
    readonly onView?: (job: JobView) => void;
  }) {
    this.#api = options.api;
    this.#job = options.job;
    this.#jobId = options.job.id;
    this.#onView = options.onView ?? (() => {});
    this.#ended = this.#watch(AbortSignal.any([options.signal, this.#closed.signal]));
  }

  /** The newest view. */
  get job(): JobView {
    return this.#job;
  }

  /**
   * The first view from now on that `accept` takes.
   * @param urgent look every `urgentIntervalMs` until then
   * @throws RingfoldError JOB_FAILED when the job ends before, or after `timeoutMs`; CANCELLED on close
   */
  async until(
    accept: (job: JobView) => boolean,
    { timeoutMs, what, urgent = false }: { timeoutMs: number; what: string; urgent?: boolean },
  ): Promise<JobView> {
    if (this.#error) throw this.#error;
    if (accept(this.#job)) return this.#job;
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        accept,
        settle: (outcome) => {
          clearTimeout(timer);
          this.#waiters.delete(waiter);
          if ("job" in outcome) resolve(outcome.job);
          else reject(outcome.error);
        },
      };
      const timer = setTimeout(() => {
        const { state, reason } = this.#job;
        const message = `${what}: not within ${timeoutMs / 1_000} s; the job is ${state}: ${reason}`;
        waiter.settle({ error: new RingfoldError("JOB_FAILED", message, { elapsedMs: timeoutMs }) });
      }, timeoutMs);
      this.#waiters.set(waiter, { urgent });
      this.#settle(this.#job);
      if (urgent) this.#wake?.();
    });
  }

  async close(): Promise<void> {
    this.#closed.abort(new RingfoldError("CANCELLED", "the run is over"));
    await this.#ended;
  }

  async #watch(signal: AbortSignal): Promise<void> {
    let answeredAtMs = performance.now();
    while (!signal.aborted) {
      try {
        this.#take(await this.#api.job(this.#jobId));
        answeredAtMs = performance.now();
      } catch (cause) {
        const error = toRingfoldError(cause);
        if (!error.rule.retryable || performance.now() - answeredAtMs > unreachableMaxMs)
          return this.#fail(error);
      }
      await this.#pause(signal);
    }
    this.#fail(toRingfoldError(signal.reason));
  }

  #take(job: JobView): void {
    // A coordinator that was started again has heard of no progress yet.
    const step = job.progress?.step ?? this.sightings.at(-1)?.step ?? 0;
    if (step !== (this.sightings.at(-1)?.step ?? 0)) this.sightings.push({ atMs: Date.now(), step });
    const generation = job.generations.at(-1)?.generation ?? 0;
    // Until the new rank 0 reports, the step is still the one of the generation before.
    if (generation !== this.#job.generations.at(-1)?.generation) this.#inheritedStep = step;
    if (step !== this.#inheritedStep) {
      this.#inheritedStep = undefined;
      this.reported.set(generation, Math.max(step, this.reported.get(generation) ?? 0));
    }
    this.#job = job;
    this.#onView(job);
    this.#settle(job);
  }

  #settle(job: JobView): void {
    for (const waiter of [...this.#waiters.keys()]) {
      if (waiter.accept(job)) waiter.settle({ job });
      else if (hasEnded(job)) {
        const message = `${job.id} ended before as ${job.state}: ${job.reason}`;
        waiter.settle({
          error: new RingfoldError("JOB_FAILED", message, { jobId: job.id, state: job.state }),
        });
      }
    }
  }

  #fail(error: RingfoldError): void {
    this.#error = error;
    for (const waiter of [...this.#waiters.keys()]) waiter.settle({ error });
  }

  #pause(signal: AbortSignal): Promise<void> {
    const urgent = [...this.#waiters.values()].some((waiter) => waiter.urgent);
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", done);
        this.#wake = undefined;
        resolve();
      };
      const timer = setTimeout(done, urgent ? urgentIntervalMs : calmIntervalMs);
      signal.addEventListener("abort", done);
      // Somebody measures from now on.
      this.#wake = done;
    });
  }
}
