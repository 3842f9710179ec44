import { RingfoldError } from "../protocol/errors.ts";
import type { AuditEvent } from "../protocol/messages/audit.ts";
import type { QuotaView } from "../protocol/messages/quota.ts";
import type { StoreWrite } from "../protocol/ports.ts";
import type { CoordinatorContext } from "./context.ts";
import { isOver } from "./decide/job-record.ts";
import type { QuotaRecord } from "./decide/queue-facts.ts";
import type { JobDesk } from "./job-desk.ts";
import { collections } from "./state.ts";

/** What is known of the jobs. */
type Jobs = Pick<JobDesk, "records" | "isQueued">;

/** Bounds that operators set to projects. They hold for what begins from then on: nothing is taken from jobs that run. */
export class QuotaDesk {
  readonly #context: CoordinatorContext;
  readonly #quotas: Map<string, QuotaRecord>;

  constructor(context: CoordinatorContext) {
    this.#context = context;
    this.#quotas = new Map(collections.quotas.readAll(context.store).map((quota) => [quota.project, quota]));
  }

  /** By project. */
  all(): ReadonlyMap<string, QuotaRecord> {
    return this.#quotas;
  }

  views(jobs: Jobs): QuotaView[] {
    return [...this.#quotas.values()].map((quota) => ({ ...quota, used: usedBy(quota.project, jobs) }));
  }

  /** @throws RingfoldError NOT_FOUND */
  view(project: string, jobs: Jobs): QuotaView {
    return { ...this.#get(project), used: usedBy(project, jobs) };
  }

  /** Undefined where there is none. */
  revision(project: string): string | undefined {
    const isSet = this.#quotas.has(project);
    return isSet ? collections.quotas.revision(this.#context.store, project) : undefined;
  }

  async set(quota: QuotaRecord): Promise<void> {
    const { project, agents, jobs } = quota;
    const bounds = [
      ...(agents === null ? [] : [`${agents} agents`]),
      ...(jobs === null ? [] : [`${jobs} running jobs`]),
    ];
    const write = collections.quotas.put(project, quota);
    await this.#commit(
      { kind: "quota-set", project, agents, jobs },
      `at most ${bounds.join(" and ")}`,
      write,
    );
    this.#quotas.set(project, quota);
  }

  /** @throws RingfoldError NOT_FOUND */
  async remove(project: string): Promise<void> {
    this.#get(project);
    const write = collections.quotas.remove(project);
    await this.#commit({ kind: "quota-removed", project }, "has no quota any more", write);
    this.#quotas.delete(project);
  }

  /** Durable before visible. */
  async #commit(event: AuditEvent & { readonly project: string }, reason: string, write: StoreWrite) {
    const { decisions, changed } = this.#context;
    const subject = `project ${event.project}`;
    await decisions.commit({ who: { kind: "operator" }, subject, event, reason, isNews: true }, [write]);
    changed();
  }

  #get(project: string): QuotaRecord {
    const quota = this.#quotas.get(project);
    if (quota) return quota;
    throw new RingfoldError("NOT_FOUND", `project ${project} has no quota`, {
      project,
      remedy: "List those that are set with `ringfold quotas`.",
    });
  }
}

/** What the jobs of a project have at this moment. */
function usedBy(project: string, jobs: Jobs): QuotaView["used"] {
  const theirs = [...jobs.records()].filter((job) => !isOver(job) && job.spec.project === project);
  const sizes = theirs.map(({ members }) => Object.keys(members).length).filter((size) => size > 0);
  return {
    agents: sizes.reduce((sum, size) => sum + size, 0),
    jobs: sizes.length,
    waiting: theirs.filter(({ id }) => jobs.isQueued(id)).length,
  };
}
