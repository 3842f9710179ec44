import { RingfoldError } from "../protocol/errors.ts";
import type { AuditEvent } from "../protocol/messages/audit.ts";
import type { QuotaView } from "../protocol/messages/quota.ts";
import type { StoreWrite } from "../protocol/ports.ts";
import type { CoordinatorContext } from "./context.ts";
import type { QuotaRecord } from "./decide/queue-facts.ts";
import { collections } from "./state.ts";

/** What the jobs of a project have at this moment. */
export type ProjectUse = (project: string) => QuotaView["used"];

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

  views(use: ProjectUse): QuotaView[] {
    return [...this.#quotas.values()].map((quota) => ({ ...quota, used: use(quota.project) }));
  }

  /** @throws RingfoldError NOT_FOUND */
  view(project: string, use: ProjectUse): QuotaView {
    return { ...this.#get(project), used: use(project) };
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
