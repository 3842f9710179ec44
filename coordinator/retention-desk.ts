import { RingfoldError } from "../protocol/errors.ts";
import { limits } from "../protocol/limits.ts";
import type { AuditEvent } from "../protocol/messages/audit.ts";
import type { RetentionDetail, RetentionView } from "../protocol/messages/retention.ts";
import type { StoreWrite } from "../protocol/ports.ts";
import type { CoordinatorContext } from "./context.ts";
import { type RetentionRule, ruleText } from "./decide/retention.ts";
import { collections } from "./state.ts";
import type { VersionDesk } from "./version-desk.ts";

/** Reasons in one answer. */
const keptTold = 1_000;

/** Rules by which versions of a model go by themselves, and what comes of them. */
export class RetentionDesk {
  readonly #context: CoordinatorContext;
  readonly #versions: Pick<VersionDesk, "retention" | "retain">;
  /** By model. */
  readonly #rules: Map<string, RetentionRule>;
  #seenRevision = -1;
  #lookedAtMs = Number.NEGATIVE_INFINITY;

  constructor(context: CoordinatorContext, versions: Pick<VersionDesk, "retention" | "retain">) {
    this.#context = context;
    this.#versions = versions;
    this.#rules = new Map(collections.retention.readAll(context.store).map((rule) => [rule.name, rule]));
  }

  views(): RetentionView[] {
    return [...this.#rules.keys()].map((name) => {
      const { kept: _, ...view } = this.view(name);
      return view;
    });
  }

  /** @throws RingfoldError NOT_FOUND */
  view(name: string): RetentionDetail {
    const rule = this.#get(name);
    const { kept, presentCount } = this.#versions.retention(rule);
    return { ...rule, presentCount, keptCount: kept.length, kept: kept.slice(0, keptTold) };
  }

  /** Undefined where there is none. */
  revision(name: string): string | undefined {
    return this.#rules.has(name) ? collections.retention.revision(this.#context.store, name) : undefined;
  }

  /** It holds at once. */
  async set(rule: RetentionRule): Promise<void> {
    const { name } = rule;
    const write = collections.retention.put(name, rule);
    await this.#commit({ kind: "retention-set", ...rule }, ruleText(rule), write);
    this.#rules.set(name, rule);
    await this.#versions.retain(rule);
  }

  /** @throws RingfoldError NOT_FOUND */
  async remove(name: string): Promise<void> {
    this.#get(name);
    const write = collections.retention.remove(name);
    await this.#commit({ kind: "retention-removed", name }, "all versions stay from now on", write);
    this.#rules.delete(name);
  }

  /** After versions or aliases have changed, and now and then for what time and the end of jobs change. */
  async lookAround(): Promise<void> {
    const { versions, clock, apart } = this.#context;
    const isDue = clock.monotonicMs() - this.#lookedAtMs >= limits.retentionLookMs;
    if (!isDue && versions.revision === this.#seenRevision) return;
    for (const rule of this.#rules.values())
      await apart.run(`retention of ${rule.name}`, () => this.#versions.retain(rule));
    this.#lookedAtMs = clock.monotonicMs();
    this.#seenRevision = versions.revision;
  }

  /** Durable before visible. */
  async #commit(event: AuditEvent & { readonly name: string }, reason: string, write: StoreWrite) {
    const { decisions, changed } = this.#context;
    const subject = `model ${event.name}`;
    await decisions.commit({ who: { kind: "operator" }, subject, event, reason, isNews: true }, [write]);
    changed();
  }

  #get(name: string): RetentionRule {
    const rule = this.#rules.get(name);
    if (rule) return rule;
    throw new RingfoldError("NOT_FOUND", `model ${name} has no retention rule: all its versions stay`, {
      name,
      remedy: "List those that are set with `ringfold models retention`.",
    });
  }
}
