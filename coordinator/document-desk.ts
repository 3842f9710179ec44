import { canonicalDigest } from "../protocol/attestation.ts";
import { RingfoldError } from "../protocol/errors.ts";
import type { Selector } from "../protocol/ids.ts";
import { limits } from "../protocol/limits.ts";
import type { AliasRequest } from "../protocol/messages/api.ts";
import {
  type DocumentContent,
  type DocumentDetail,
  type DocumentKind,
  type DocumentView,
  documentContentSchemas,
  type KeyDifference,
} from "../protocol/messages/document.ts";
import type { StoreWrite } from "../protocol/ports.ts";
import { Aliases } from "./aliases.ts";
import type { CoordinatorContext } from "./context.ts";
import type { Decision } from "./decide/decision.ts";
import { differences } from "./decide/differences.ts";
import {
  type DocumentEntry,
  type DocumentRecord,
  decideDocument,
  decideRoom,
  referenceOf,
} from "./decide/document.ts";
import { assertRemovable } from "./decide/references.ts";
import { collections, padded } from "./state.ts";
import { inWrites } from "./store/one-write.ts";

/** What is to be registered. */
export interface OfferedDocument {
  readonly kind: DocumentKind;
  readonly name: string;
  /** Checked, with all defaults. */
  readonly content: object;
  readonly addedBy: string;
}

/** What work goes by, and what is to be written in one write with that. */
export interface Registration {
  /** `name@3` */
  readonly reference: string;
  readonly writes: readonly StoreWrite[];
  /** To be called once they are durable. */
  readonly written: () => void;
}

/** Why documents must stay, by kind and reference: `pipeline credit@1`. */
export type DocumentReferences = ReadonlyMap<string, string>;

/** A kind of its own, or a name and a number of it. */
type Place = Pick<DocumentEntry, "kind" | "name">;

/**
 * Pipelines and job configurations: immutable, named by the digest of their content, numbered by name. Those that come with a job, a
 * sweep or a data set are registered under its name, so that whatever is registered comes of something that has a name.
 */
export class DocumentDesk {
  readonly #context: CoordinatorContext;
  readonly #references: () => DocumentReferences;
  /** By kind and name, in order; those that were removed among them. */
  readonly #entries = new Map<string, DocumentEntry[]>();
  readonly #aliases: Readonly<Record<DocumentKind, Aliases>>;
  #views: { readonly seen: number; readonly all: readonly DocumentView[] } = { seen: -1, all: [] };
  #revision = 0;

  /** @param references what refers to documents, but for aliases */
  constructor(context: CoordinatorContext, references: () => DocumentReferences) {
    const { store } = context;
    this.#context = context;
    this.#references = references;
    this.#aliases = { pipeline: new Aliases(store, "pipeline"), config: new Aliases(store, "config") };
    for (const record of collections.documents.readAll(store)) this.#keep(record);
  }

  /** The same array as long as nothing in it has changed. */
  views(): readonly DocumentView[] {
    const { pipeline, config } = this.#aliases;
    const seen = this.#revision + pipeline.revision + config.revision;
    if (seen !== this.#views.seen)
      this.#views = { seen, all: this.#present().map((each) => this.#view(each)) };
    return this.#views.all;
  }

  /** @throws RingfoldError NOT_FOUND */
  view(kind: DocumentKind, name: string, selector: Selector): DocumentDetail {
    const entry = this.#get({ kind, name }, selector);
    return { ...this.#view(entry), content: this.#content(entry) };
  }

  /** @param reference `name@3` or `name@alias` @throws RingfoldError NOT_FOUND */
  named(kind: DocumentKind, reference: string): DocumentDetail {
    return this.view(kind, ...splitReference(reference));
  }

  /** Whether it was removed or not. */
  find(kind: DocumentKind, reference: string): DocumentEntry | undefined {
    const [name, number] = splitReference(reference);
    return this.#named({ kind, name })[Number(number) - 1];
  }

  /** @param other of the same kind, `name@3` or `name@alias` @throws RingfoldError NOT_FOUND */
  diff(kind: DocumentKind, name: string, selector: Selector, other: string): KeyDifference[] {
    return differences(this.view(kind, name, selector).content, this.named(kind, other).content);
  }

  /**
   * Gives a content that somebody offers its number; the same content under the same name keeps the one that it has.
   * @throws RingfoldError CONFLICT when there is no room
   */
  async add(offered: OfferedDocument): Promise<DocumentDetail> {
    const { reference, record, reason } = await this.#prepare({ ...offered, isAsked: true });
    if (record) await this.#commit([record], { ...added(record), reason, isNews: true });
    return this.named(offered.kind, reference);
  }

  /**
   * What work that is being begun goes by: the document that it names, which has to say the same, or its own content, which is registered
   * with it.
   * @throws RingfoldError NOT_FOUND | REQUEST_INVALID when the one that it names says something else; CONFLICT as above
   */
  async ofWork(offered: OfferedDocument, named: string | undefined): Promise<Registration> {
    if (named !== undefined) return registered(this.#assertSame(offered, this.named(offered.kind, named)));
    const { reference, record, reason } = await this.#prepare({ ...offered, isAsked: false });
    if (!record) return registered(reference);
    if (record.bytes <= limits.documentBytesAlong)
      return { reference, writes: [write(record)], written: () => this.#keep(record) };
    await this.#commit([record], { ...added(record), reason, isNews: false });
    return registered(reference);
  }

  /** @returns the record that is to be written; none where it is known. Room has been made for it */
  async #prepare({ content, ...offered }: OfferedDocument & { readonly isAsked: boolean }) {
    const bytes = Buffer.byteLength(JSON.stringify(content));
    const wanted = {
      ...offered,
      content: content as DocumentContent,
      digest: canonicalDigest(content),
      bytes,
    };
    const decided = decideDocument(this.#named(offered), wanted, this.#context.clock.nowMs());
    if ("known" in decided) return { reference: referenceOf(decided.known), reason: "" };
    const { record, reason } = decided;
    if (!this.#named(record)[record.version - 1]) await this.#makeRoom(bytes);
    return { reference: referenceOf(record), record, reason };
  }

  /** What an earlier release has registered may lack keys that have a default by now. */
  #assertSame({ kind, content }: OfferedDocument, known: DocumentDetail): string {
    const means = documentContentSchemas[kind].safeParse(known.content).data;
    const reference = referenceOf(known);
    if (means && canonicalDigest(means) === canonicalDigest(content)) return reference;
    throw new RingfoldError("REQUEST_INVALID", `what was sent is not what ${kind} ${reference} says`, {
      remedy: "Leave the reference out: what was sent is registered under its own name.",
    });
  }

  /** @throws RingfoldError NOT_FOUND | CONFLICT when something needs it */
  async remove(kind: DocumentKind, name: string, version: number): Promise<void> {
    const entry = this.#get({ kind, name }, version);
    const reason = this.#references().get(`${kind} ${referenceOf(entry)}`);
    const references = [...this.#aliases[kind].references(name)];
    if (reason !== undefined) references.push([version, reason]);
    const remedy = "Move the alias, wait for the job, or remove the versions or data sets that came of it.";
    assertRemovable(entry, new Map(references), remedy);
    await this.#remove([entry], "removed", "operator");
  }

  /** @throws RingfoldError NOT_FOUND | CONFLICT when it points elsewhere than `from` says */
  async moveAlias({ kind, name }: Place, alias: string, request: AliasRequest): Promise<DocumentView> {
    const entry = this.#get({ kind, name }, request.version);
    if (await this.#aliases[kind].move(name, alias, request, this.#context)) this.#context.changed();
    return this.#view(entry);
  }

  /** @throws RingfoldError NOT_FOUND | CONFLICT when it points elsewhere than to `from` */
  async removeAlias({ kind, name }: Place, alias: string, from?: number): Promise<void> {
    await this.#aliases[kind].remove(name, alias, this.#context, from);
    this.#context.changed();
  }

  async #makeRoom(bytes: number): Promise<void> {
    let references: DocumentReferences | undefined;
    const isNeeded = ({ kind, name, version }: DocumentEntry): boolean => {
      references ??= this.#references();
      const reference = `${kind} ${referenceOf({ name, version })}`;
      return references.has(reference) || this.#aliases[kind].to(name, version).length > 0;
    };
    const going = decideRoom(this.#present(), bytes, isNeeded);
    if (going.length > 0) await this.#remove(going, "made room for a new one", "coordinator");
  }

  /** Their numbers and digests stay. */
  async #remove(entries: readonly DocumentEntry[], why: string, who: "operator" | "coordinator") {
    const removedAtMs = this.#context.clock.nowMs();
    const records = entries.map((entry) => ({ ...entry, content: null, removedAtMs }));
    for (const kind of ["pipeline", "config"] as const) {
      const gone = records.filter((record) => record.kind === kind);
      for (const portion of inWrites(gone, write)) {
        const documents = portion.map(referenceOf);
        const event = { kind: "documents-removed", of: kind, documents } as const;
        await this.#commit(portion, { event, reason: `${why}: ${documents.join(" ")}`, isNews: true }, who);
      }
    }
  }

  /** Durable before visible. */
  async #commit(
    records: readonly DocumentRecord[],
    told: Pick<Decision, "event" | "reason" | "isNews">,
    who: "operator" | "coordinator" = "operator",
  ): Promise<void> {
    const { kind, name } = records[0]!;
    const subject = `${kind} ${name}`;
    await this.#context.decisions.commit({ ...told, who: { kind: who }, subject }, records.map(write));
    for (const record of records) this.#keep(record);
    this.#context.changed();
  }

  #keep({ content: _, ...entry }: DocumentRecord): void {
    const place = `${entry.kind}/${entry.name}`;
    const all = this.#entries.get(place) ?? [];
    this.#entries.set(place, all);
    all[entry.version - 1] = entry;
    this.#revision++;
  }

  #view(entry: DocumentEntry): DocumentView {
    const { removedAtMs: _, isAsked: __, ...shown } = entry;
    return { ...shown, aliases: this.#aliases[entry.kind].to(entry.name, entry.version) };
  }

  #content(entry: DocumentEntry): DocumentContent {
    const content = collections.documents.read(this.#context.store, idOf(entry))?.content;
    if (content) return content;
    throw new RingfoldError("STORE_FAILED", `${entry.kind} ${referenceOf(entry)} has lost its content`, {});
  }

  #get({ kind, name }: Place, selector: Selector): DocumentEntry {
    const version =
      typeof selector === "number" ? selector : this.#aliases[kind].get(name, selector)?.version;
    const found = version === undefined ? undefined : this.#named({ kind, name })[version - 1];
    if (found && found.removedAtMs === null) return found;
    const state = found
      ? `${kind} ${referenceOf(found)} was removed`
      : `there is no ${kind} ${name}@${selector}`;
    throw new RingfoldError("NOT_FOUND", state, {
      ...{ name, version: selector },
      remedy: `List what exists with \`ringfold ${kind}s\`.`,
    });
  }

  #named({ kind, name }: Place): readonly DocumentEntry[] {
    return this.#entries.get(`${kind}/${name}`) ?? [];
  }

  #present(): DocumentEntry[] {
    return [...this.#entries.values()].flat().filter(({ removedAtMs }) => removedAtMs === null);
  }
}

const idOf = ({ kind, name, version }: DocumentEntry): string => `${kind}/${name}/${padded(version)}`;
const registered = (reference: string): Registration => ({ reference, writes: [], written: () => {} });
const added = (record: DocumentRecord) => ({
  event: {
    ...({ kind: "document-added", of: record.kind, digest: record.digest } as const),
    document: referenceOf(record),
  },
});
const write = (record: DocumentRecord) => collections.documents.put(idOf(record), record);

function splitReference(reference: string): readonly [string, Selector] {
  const [name = "", selector = ""] = reference.split("@");
  return [name, /^\d+$/.test(selector) ? Number(selector) : selector];
}
