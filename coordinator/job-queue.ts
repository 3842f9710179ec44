import { isDeepStrictEqual } from "node:util";
import type { JobSpec } from "../protocol/job-spec.ts";
import { isOver, type JobRecord } from "./decide/job-record.ts";
import { needsOf } from "./decide/needs.ts";
import { decideQueue, type QueueDecision, type Wait } from "./decide/queue.ts";
import { type QueueJob, type QuotaRecord, queueJobOf } from "./decide/queue-facts.ts";
import type { JobTable } from "./job-table.ts";
import type { JobWorld } from "./job-world.ts";

interface QueueModules {
  readonly jobs: Pick<JobTable, "open">;
  readonly world: JobWorld;
  readonly quotas: () => ReadonlyMap<string, QuotaRecord>;
  /** Agents of an earlier coordinator may be on their way. */
  readonly gathering: () => boolean;
  /** People see something else than before. */
  readonly changed: () => void;
}

/**
 * What `decideQueue` last said, and whether that may be out of date. Nothing of it is stored: grants are, in the records of the jobs, and
 * why the others wait follows from those.
 */
export class JobQueue {
  readonly #modules: QueueModules;
  #waits: QueueDecision["waits"] = new Map();
  #isStale = true;
  readonly #facts = new WeakMap<JobRecord, QueueJob>();

  constructor(modules: QueueModules) {
    this.#modules = modules;
  }

  /** Since the last decision an agent was let go, or what a job wants has changed. */
  get isStale(): boolean {
    return this.#isStale;
  }

  /** What is to be carried out now. */
  decide(): QueueDecision {
    this.#isStale = false;
    const decision = this.#ask();
    if (isDeepStrictEqual(this.#waits, decision.waits)) return decision;
    this.#waits = decision.waits;
    this.#modules.changed();
    return decision;
  }

  /** A record has changed. */
  heardOf(before: JobRecord | undefined, job: JobRecord): void {
    if (!before || wants(before) !== wants(job) || Object.keys(before.members).some((id) => !job.members[id]))
      this.#isStale = true;
  }

  /** Agents or quotas may have. */
  factsChanged(): void {
    this.#isStale = true;
  }

  /** Where a job stands that waits for agents. */
  wait(jobId: string): Wait | undefined {
    return this.#waits.get(jobId);
  }

  /** Agents that one more job of this kind would get at once. */
  free(spec: JobSpec): number {
    const { priority, project, workers } = spec;
    const most = workers.max + workers.spares;
    return this.#ask().free({ needs: needsOf(spec), priority, project, most });
  }

  #ask(): QueueDecision {
    const { jobs, world, quotas, gathering } = this.#modules;
    return decideQueue({
      jobs: Array.from(jobs.open(), (job) => this.#factsOf(job)),
      // Looked for only where a job wants some.
      get agents() {
        return world.agents();
      },
      get known() {
        return world.offers();
      },
      ...{ quotas: quotas(), gathering: gathering() },
    });
  }

  /** A record never changes: of a thousand jobs few have another one than at the last decision. */
  #factsOf(job: JobRecord): QueueJob {
    const facts = this.#facts.get(job) ?? queueJobOf(job);
    this.#facts.set(job, facts);
    return facts;
  }
}

/** That by which a job's place in the queue changes, but for its members. */
const wants = (job: JobRecord): string =>
  `${isOver(job)} ${job.state === "paused"} ${job.hold === null} ${job.result === null} ${job.priority}`;
