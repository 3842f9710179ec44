import type { JobReport } from "../../protocol/messages/job-report.ts";
import type { Clock, Log } from "../../protocol/ports.ts";

/**
 * Reports on their way to the coordinator: in order, again and again until it has answered, so that a coordinator that
 * was away hears of everything that happened meanwhile. Bounded: only the newest progress is kept, and when the box is
 * full the oldest report that is merely informative goes, then one that a later one of its kind and job has made moot. The
 * newest word of each kind on what a job has come to is never dropped: without it the coordinator would wait for ever.
 */
export class ReportOutbox {
  readonly #send: (report: JobReport, sequence: number) => Promise<void>;
  readonly #clock: Clock;
  readonly #log: Log;
  #queue: JobReport[] = [];
  #sending = false;
  #head: { readonly report: JobReport; readonly sequence: number } | undefined;
  #failures = 0;
  #cancelRetry: (() => void) | undefined;
  #closed = false;

  constructor(modules: {
    /** The sequence is the same each time that this report is sent, and greater for the next one. */
    readonly send: (report: JobReport, sequence: number) => Promise<void>;
    readonly clock: Clock;
    readonly log: Log;
  }) {
    this.#send = modules.send;
    this.#clock = modules.clock;
    this.#log = modules.log;
  }

  push(report: JobReport): void {
    if (this.#closed) return;
    if (report.kind === "progress" || report.kind === "loading") {
      // The report in flight stays at the head: it may have arrived already.
      this.#queue = this.#queue.filter(
        (queued, i) => (i === 0 && this.#sending) || queued.kind !== report.kind,
      );
    }
    if (this.#queue.length >= queueMax && !this.#makeRoom(report)) return;
    this.#queue.push(report);
    void this.#drain();
  }

  /** The head stays: it may have arrived already. @returns whether `next` is to be kept */
  #makeRoom(next: JobReport): boolean {
    const others = this.#queue.slice(1);
    const isMoot = (report: JobReport, i: number) =>
      [...others.slice(i + 1), next].some(
        ({ kind, jobId }) => kind === report.kind && jobId === report.jobId,
      );
    const informative = others.findIndex(isInformative);
    const index = informative >= 0 ? informative : others.findIndex(isMoot);
    if (index >= 0) this.#queue.splice(1 + index, 1);
    // Else there is one report of a kind and job, and so no more than an agent can have jobs.
    return index >= 0 || !isInformative(next);
  }

  /** What the trainer of this job had to say is of no interest any more. */
  forget(jobId: string): void {
    this.#queue = this.#queue.filter((report) => report.jobId !== jobId);
  }

  /** Tries at once, for example because the coordinator is back. */
  retryNow(): void {
    this.#cancelRetry?.();
    this.#cancelRetry = undefined;
    void this.#drain();
  }

  close(): void {
    this.#closed = true;
    this.#cancelRetry?.();
    this.#queue = [];
  }

  #sequenceOf(head: JobReport): number {
    if (this.#head?.report !== head) this.#head = { report: head, sequence: (this.#head?.sequence ?? 0) + 1 };
    return this.#head.sequence;
  }

  async #drain(): Promise<void> {
    if (this.#sending || this.#cancelRetry) return;
    this.#sending = true;
    try {
      for (let report = this.#queue[0]; report && !this.#closed; report = this.#queue[0]) {
        await this.#send(report, this.#sequenceOf(report));
        if (this.#queue[0] === report) this.#queue.shift();
        this.#failures = 0;
      }
    } catch (error) {
      const delayMs = Math.min(retryMs.most, retryMs.first * 2 ** this.#failures++);
      this.#log.debug(
        { err: error, delayMs, waiting: this.#queue.length },
        "A report waits for the coordinator",
      );
      if (!this.#closed) {
        this.#cancelRetry = this.#clock.after(delayMs, () => {
          this.#cancelRetry = undefined;
          void this.#drain();
        });
      }
    } finally {
      this.#sending = false;
    }
  }
}

/** Nothing is decided by these alone. */
const informativeKinds: ReadonlySet<JobReport["kind"]> = new Set([
  "progress",
  "loading",
  "checkpoint",
  "held",
  "evaluated",
  "skipped",
  "resumed",
]);
const isInformative = ({ kind }: JobReport): boolean => informativeKinds.has(kind);
const queueMax = 256;
const retryMs = { first: 100, most: 2_000 } as const;
