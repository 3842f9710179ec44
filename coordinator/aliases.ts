import { RingfoldError } from "../protocol/errors.ts";
import type { AliasRequest } from "../protocol/messages/api.ts";
import type { Store, StoreWrite } from "../protocol/ports.ts";
import type { CoordinatorContext } from "./context.ts";
import { type AliasRecord, decideAlias } from "./decide/alias.ts";
import { collections } from "./state.ts";

const none: string[] = [];
type Context = Pick<CoordinatorContext, "decisions" | "clock">;

/** Names that move from number to number of what is registered under a name: of models, of pipelines, of configurations. */
export class Aliases {
  readonly #of: keyof typeof collections.aliases;
  /** By name, then alias. */
  readonly #known = new Map<string, Map<string, AliasRecord>>();
  #revision = 0;

  constructor(store: Store, of: keyof typeof collections.aliases) {
    this.#of = of;
    for (const record of collections.aliases[of].readAll(store)) this.#set(record);
  }

  /** Grows with every change. */
  get revision(): number {
    return this.#revision;
  }

  get(name: string, alias: string): AliasRecord | undefined {
    return this.#known.get(name)?.get(alias);
  }

  /** Those of a name. */
  of(name: string): AliasRecord[] {
    return [...(this.#known.get(name)?.values() ?? [])];
  }

  /** Those that point to a number of a name. Asked for each of ten thousand. */
  to(name: string, version: number): string[] {
    const known = this.#known.get(name);
    if (!known) return none;
    return [...known.values()].filter((record) => record.version === version).map(({ alias }) => alias);
  }

  /** Why the numbers of a name must stay. */
  references(name: string): (readonly [number, string])[] {
    return this.of(name).map(({ alias, version }) => [version, `${alias} points to it`] as const);
  }

  /**
   * Durable before visible.
   * @returns whether it has moved
   * @throws RingfoldError CONFLICT when it points elsewhere than `from` says
   */
  async move(name: string, alias: string, request: AliasRequest, context: Context): Promise<boolean> {
    const known = this.get(name, alias);
    const { record, reason } = decideAlias(known, { ...request, name, alias }, context.clock.nowMs());
    if (known?.version === record.version) return false;
    await this.#commit(record, record.version, reason, context);
    this.#set(record);
    return true;
  }

  /** A move that another decision brings with it: to be written with that, and called once it is durable. */
  moveWith(
    name: string,
    alias: string,
    version: number,
    nowMs: number,
  ): { write: StoreWrite; moved: () => void } {
    const { record } = decideAlias(this.get(name, alias), { name, alias, version }, nowMs);
    return {
      write: collections.aliases[this.#of].put(`${name}/${alias}`, record),
      moved: () => this.#set(record),
    };
  }

  /** @throws RingfoldError NOT_FOUND | CONFLICT when it points elsewhere than to `from` */
  async remove(name: string, alias: string, context: Context, from?: number): Promise<void> {
    const known = this.get(name, alias);
    if (!known) throw new RingfoldError("NOT_FOUND", `${name} has no alias ${alias}`, { name, alias });
    if (from !== undefined && known.version !== from) {
      const message = `${name}@${alias} is version ${known.version}, not ${from}`;
      throw new RingfoldError("CONFLICT", message, { name, alias, version: known.version });
    }
    await this.#commit(known, null, `${alias} is no alias any more, was ${name}@${known.version}`, context);
    this.#known.get(name)?.delete(alias);
    this.#revision++;
  }

  async #commit(record: AliasRecord, version: number | null, reason: string, { decisions }: Context) {
    const { name, alias } = record;
    const collection = collections.aliases[this.#of];
    const id = `${name}/${alias}`;
    const event = { kind: "alias-moved", of: this.#of, name, alias, version } as const;
    await decisions.commit(
      { who: { kind: "operator" }, subject: `${this.#of} ${name}`, event, reason, isNews: true },
      [version === null ? collection.remove(id) : collection.put(id, record)],
    );
  }

  #set(record: AliasRecord): void {
    const known = this.#known.get(record.name) ?? new Map<string, AliasRecord>();
    this.#known.set(record.name, known.set(record.alias, record));
    this.#revision++;
  }
}
