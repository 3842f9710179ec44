import { isDeepStrictEqual } from "node:util";
import type { JobSpec } from "../protocol/job-spec.ts";
import { isOver, type JobRecord } from "./decide/job-record.ts";
import { needsOf } from "./decide/needs.ts";
import { decideQueue, type QueueDecision, type Wait } from "./decide/queue.ts";
import { type QuotaRecord, queueJobOf } from "./decide/queue-facts.ts";
import type { JobWorld } from "./job-world.ts";

interface QueueModules {
  readonly jobs: ReadonlyMap<string, JobRecord>;
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
    const isNews = !isDeepStrictEqual(this.#waits, decision.waits);
    this.#waits = decision.waits;
    if (isNews) this.#modules.changed();
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
    const open = [...jobs.values()].flatMap((job) => queueJobOf(job) ?? []);
    return decideQueue({
      jobs: open,
      agents: world.agents(),
      known: world.offers(),
      quotas: quotas(),
      gathering: gathering(),
    });
  }
}

/** That by which a job's place in the queue changes, but for its members. */
const wants = (job: JobRecord): string =>
  `${isOver(job)} ${job.state === "paused"} ${job.hold === null} ${job.result === null} ${job.priority}`;
