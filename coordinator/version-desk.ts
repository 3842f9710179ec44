import { RingfoldError } from "../protocol/errors.ts";
import type { Selector } from "../protocol/ids.ts";
import type { JobSpec } from "../protocol/job-spec.ts";
import type {
  AliasRequest,
  PruneAnswer,
  PruneRequest,
  VersionDetail,
  VersionDifference,
  VersionView,
} from "../protocol/messages/api.ts";
import type { CoordinatorContext } from "./context.ts";
import type { Decision } from "./decide/decision.ts";
import { assertRemovable, type References } from "./decide/references.ts";
import { decideRetention, type RetentionRule, ruleText } from "./decide/retention.ts";
import { type VersionRecord, vouchedContent } from "./decide/version.ts";
import { diffVersions } from "./decide/version-diff.ts";
import { liveHolders, type Registered } from "./replication-desk.ts";
import { inWrites } from "./store/one-write.ts";

/** What other desks know of versions. */
export interface VersionUsers {
  /** Why the versions of a name must stay, by number: who serves them, whose job begins with them. */
  readonly references: (name: string) => ReadonlyMap<number, string>;
  readonly job: (jobId: string) => JobSpec | undefined;
}

const operator = { kind: "operator" } as const;
const coordinator = { kind: "coordinator" } as const;

/** What people do with versions: aliases, comparing, letting go. Jobs register them. */
export class VersionDesk {
  readonly #context: CoordinatorContext;
  readonly #users: VersionUsers;
  #views: { readonly seen: string; readonly all: readonly VersionView[] } = { seen: "", all: [] };

  constructor(context: CoordinatorContext, users: VersionUsers) {
    this.#context = context;
    this.#users = users;
  }

  /** The same array as long as nothing in it has changed: long lists are read page after page. */
  views(): readonly VersionView[] {
    const { versions, holders, peers } = this.#context;
    const seen = `${versions.revision} ${holders.revision} ${peers.connections}`;
    if (seen !== this.#views.seen) this.#views = { seen, all: versions.views(this.#holdersOf) };
    return this.#views.all;
  }

  registered(): Registered {
    return this.#context.versions.weights();
  }

  /** @throws RingfoldError NOT_FOUND */
  view(name: string, selector: Selector): VersionDetail {
    const { versions } = this.#context;
    const record = versions.get(name, selector);
    return { ...versions.view(record, this.#holdersOf), ...vouchedContent(record) };
  }

  /** @param other `name@3` or `name@alias` @throws RingfoldError NOT_FOUND */
  diff(name: string, selector: Selector, other: string): VersionDifference[] {
    const { versions } = this.#context;
    const known = ({ manifest }: VersionRecord) => ({
      manifest,
      job: this.#users.job(manifest.lineage.jobId),
    });
    return diffVersions(known(versions.get(name, selector)), known(versions.named(other)));
  }

  /** @throws RingfoldError NOT_FOUND | CONFLICT when it points elsewhere than `from` says */
  async moveAlias(name: string, alias: string, request: AliasRequest): Promise<VersionView> {
    const { versions, changed } = this.#context;
    const target = versions.get(name, request.version);
    if (await versions.aliases.move(name, alias, request, this.#context)) changed();
    return versions.view(target, this.#holdersOf);
  }

  /** @throws RingfoldError NOT_FOUND | CONFLICT when it points elsewhere than to `from` */
  async removeAlias(name: string, alias: string, from?: number): Promise<void> {
    await this.#context.versions.aliases.remove(name, alias, this.#context, from);
    this.#context.changed();
  }

  /** @throws RingfoldError NOT_FOUND | CONFLICT when something needs it */
  async remove(name: string, version: number): Promise<void> {
    this.#context.versions.get(name, version);
    const remedy = "Move the alias, deploy another version, or wait for the job; then remove it.";
    assertRemovable({ name, version }, this.#references(name), remedy);
    await this.#remove(name, [version], "removed");
  }

  /** Keeps the newest versions of a name, and what something needs. @throws RingfoldError NOT_FOUND */
  async prune(name: string, { keepLast, dryRun }: PruneRequest): Promise<PruneAnswer> {
    const present = this.#context.versions.present(name);
    if (present.length === 0) throw new RingfoldError("NOT_FOUND", `there is no model ${name}`, { name });
    const answer = this.#decide({ name, keepLast, keepForDays: null });
    if (!dryRun)
      await this.#remove(name, answer.removed, `all but the newest ${keepLast} and what is needed`);
    return answer;
  }

  /** What a rule means now. */
  retention(rule: RetentionRule): PruneAnswer & { readonly presentCount: number } {
    const presentCount = this.#context.versions.present(rule.name).length;
    return { presentCount, ...this.#decide(rule) };
  }

  /** Lets go what a rule lets go. */
  async retain(rule: RetentionRule): Promise<void> {
    await this.#remove(rule.name, this.#decide(rule).removed, ruleText(rule), coordinator);
  }

  #decide({ name, ...rule }: RetentionRule): PruneAnswer {
    const { versions, clock } = this.#context;
    const present = versions.present(name).map(({ version, manifest: { createdAtMs } }) => ({
      ...{ version, createdAtMs },
    }));
    return decideRetention(present, rule, this.#references(name), clock.nowMs());
  }

  /** Thousands of versions are more than one write takes; if a later decision fails, asking again removes the rest. */
  async #remove(
    name: string,
    numbers: readonly number[],
    reason: string,
    who: Decision["who"] = operator,
  ): Promise<void> {
    if (numbers.length === 0) return;
    const { versions, decisions, clock } = this.#context;
    const all = numbers.map((version) => ({ ...versions.get(name, version), removedAtMs: clock.nowMs() }));
    for (const records of inWrites(all, (record) => versions.write(record))) {
      const removed = records.map(({ version }) => version);
      await decisions.commit(
        {
          ...{ who, subject: `model ${name}`, isNews: true },
          event: { kind: "versions-removed", name, versions: removed },
          reason: `${reason}: ${list(removed)}`,
        },
        records.map((record) => versions.write(record)),
      );
      for (const record of records) versions.commit(record);
    }
    this.#context.changed();
  }

  readonly #holdersOf = (digest: string): string[] => liveHolders(this.#context, digest);

  #references(name: string): References {
    return new Map([...this.#users.references(name), ...this.#context.versions.aliases.references(name)]);
  }
}

const list = (numbers: readonly number[]): string => numbers.map((number) => `@${number}`).join(" ");
