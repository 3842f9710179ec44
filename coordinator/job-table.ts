import { isOver, type JobRecord } from "./decide/job-record.ts";

/**
 * The newest records of all jobs, and what is asked of them at every event: which are not over, who works for them, which are
 * trials of a sweep. A cluster that lives long has many thousand jobs behind it; looking around costs what the open ones cost.
 */
export class JobTable {
  readonly #jobs = new Map<string, JobRecord>();
  readonly #open = new Map<string, JobRecord>();
  /** Open jobs by the peers that work for them: one each, where nothing is wrong. */
  readonly #employers = new Map<string, Set<string>>();
  /** By sweep. */
  readonly #trials = new Map<string, Set<string>>();
  #endings = 0;

  constructor(records: Iterable<JobRecord>) {
    for (const record of records) this.put(record);
  }

  get(jobId: string): JobRecord | undefined {
    return this.#jobs.get(jobId);
  }

  all(): Iterable<JobRecord> {
    return this.#jobs.values();
  }

  /** Those that are not over. What is put meanwhile may come along. */
  open(): Iterable<JobRecord> {
    return this.#open.values();
  }

  /** Grows when a job ends, and with each change of one that has. */
  get endings(): number {
    return this.#endings;
  }

  trialsOf(sweepId: string): JobRecord[] {
    return [...(this.#trials.get(sweepId) ?? [])].map((jobId) => this.#jobs.get(jobId)!);
  }

  /** Whether a job that is not over counts on this peer. */
  isEmployed(peerId: string): boolean {
    return this.#employers.has(peerId);
  }

  put(record: JobRecord): void {
    const { id, trial } = record;
    const before = this.#jobs.get(id);
    for (const peerId of workersOf(before)) {
      const employers = this.#employers.get(peerId);
      employers?.delete(id);
      if (employers?.size === 0) this.#employers.delete(peerId);
    }
    for (const peerId of workersOf(record))
      this.#employers.set(peerId, (this.#employers.get(peerId) ?? new Set()).add(id));
    this.#jobs.set(id, record);
    if (isOver(record)) this.#open.delete(id);
    else this.#open.set(id, record);
    if (isOver(record) || (before && isOver(before))) this.#endings++;
    if (before?.trial && !trial) this.#trials.get(before.trial.sweep)?.delete(id); // tried again, by an operator
    if (trial) this.#trials.set(trial.sweep, (this.#trials.get(trial.sweep) ?? new Set()).add(id));
  }
}

/** Whom a job keeps from other jobs. */
export const workersOf = (job: JobRecord | undefined): string[] =>
  job === undefined || isOver(job) ? [] : Object.keys(job.members);
