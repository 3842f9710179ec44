import { canonicalDigest } from "../protocol/attestation.ts";
import { RingfoldError } from "../protocol/errors.ts";
import type { Selector } from "../protocol/ids.ts";
import type { VersionView } from "../protocol/messages/api.ts";
import type { Envelope } from "../protocol/messages/attestation.ts";
import type { VersionManifest } from "../protocol/messages/model.ts";
import type { Store, StoreWrite } from "../protocol/ports.ts";
import { Aliases } from "./aliases.ts";
import { numberVersion, type VersionRecord } from "./decide/version.ts";
import type { Registered } from "./replication-desk.ts";
import { collections, padded } from "./state.ts";

/** Live peers that hold an artefact. */
export type HoldersOf = (digest: string) => string[];

/** Versions: immutable, content-addressed by their manifest, numbered by name; and the aliases that point to them. */
export class VersionRegistry {
  /** Those that were removed among them, by name and in order. */
  readonly #versions = new Map<string, VersionRecord[]>();
  readonly aliases: Aliases;
  readonly #replicaCount: number;
  readonly #views = new WeakMap<VersionRecord, VersionView>();
  /** Until a version comes or goes. */
  #weights: Registered | undefined;
  #revision = 0;

  /** @param replicaCount agents that are to hold each version */
  constructor(store: Store, replicaCount: number) {
    this.#replicaCount = replicaCount;
    for (const record of collections.versions.readAll(store)) this.#list(record.manifest.name).push(record);
    this.aliases = new Aliases(store, "model");
  }

  /** Grows with every change of a version or an alias. */
  get revision(): number {
    return this.#revision + this.aliases.revision;
  }

  /** Numbers a new version. Call `commit` once the returned write is durable. */
  prepare(manifest: VersionManifest, attestation?: Envelope): { record: VersionRecord; write: StoreWrite } {
    const content = { digest: canonicalDigest(manifest), manifest, ...(attestation && { attestation }) };
    const record = numberVersion(this.#list(manifest.name), content);
    return { record, write: this.write(record) };
  }

  write(record: VersionRecord): StoreWrite {
    return collections.versions.put(`${record.manifest.name}/${padded(record.version)}`, record);
  }

  /** A new version, or one that has changed its mind about being there. */
  commit(record: VersionRecord): void {
    this.#list(record.manifest.name)[record.version - 1] = record;
    this.#weights = undefined;
    this.#revision++;
  }

  /** @throws RingfoldError NOT_FOUND */
  get(name: string, selector: Selector): VersionRecord {
    const version = typeof selector === "number" ? selector : this.aliases.get(name, selector)?.version;
    const found = version === undefined ? undefined : this.#versions.get(name)?.[version - 1];
    if (found && found.removedAtMs === null) return found;
    const state = found ? `${name}@${version} was removed` : `there is no version ${name}@${selector}`;
    throw new RingfoldError("NOT_FOUND", state, { name, version: selector });
  }

  /** `name@3` or `name@alias`. @throws RingfoldError NOT_FOUND */
  named(reference: string): VersionRecord {
    const [name = "", selector = ""] = reference.split("@");
    return this.get(name, /^\d+$/.test(selector) ? Number(selector) : selector);
  }

  /** The same, whether it was removed or not. */
  find(reference: string): VersionRecord | undefined {
    const [name = "", version = ""] = reference.split("@");
    return this.#versions.get(name)?.[Number(version) - 1];
  }

  /** Those that were removed among them. */
  *everything(): Iterable<VersionRecord> {
    for (const list of this.#versions.values()) yield* list;
  }

  /** Those of a name that are not removed, in order; of all names unless told. */
  present(name?: string): VersionRecord[] {
    const lists = name === undefined ? [...this.#versions.values()] : [this.#versions.get(name) ?? []];
    return lists.flat().filter(({ removedAtMs }) => removedAtMs === null);
  }

  /** Digests of weights that are registered, and of such as were. Asked at every look around, and ten thousand may be there. */
  weights(): Registered {
    if (this.#weights) return this.#weights;
    const all = [...this.#versions.values()].flat();
    const digests = (records: readonly VersionRecord[]) => [
      ...new Set(records.map(({ manifest }) => manifest.weights.digest)),
    ];
    this.#weights = {
      present: digests(all.filter(({ removedAtMs }) => removedAtMs === null)),
      removed: digests(all.filter(({ removedAtMs }) => removedAtMs !== null)),
    };
    return this.#weights;
  }

  views(holdersOf: HoldersOf): VersionView[] {
    return this.present().map((record) => this.view(record, holdersOf));
  }

  /** The same object as long as it shows the same: of ten thousand versions few change, and only in who holds them. */
  view(record: VersionRecord, holdersOf: HoldersOf): VersionView {
    const { name, weights } = record.manifest;
    const held = holdersOf(weights.digest);
    const aliases = this.aliases.to(name, record.version);
    const known = this.#views.get(record);
    if (known && isSame(known.holders, held) && isSame(known.aliases, aliases)) return known;
    const view = { ...versionView(record, held, aliases), replicasWanted: this.#replicaCount };
    this.#views.set(record, view);
    return view;
  }

  #list(name: string): VersionRecord[] {
    const list = this.#versions.get(name) ?? [];
    this.#versions.set(name, list);
    return list;
  }
}

const isSame = (one: readonly string[], other: readonly string[]): boolean =>
  one.length === other.length && one.every((element, i) => element === other[i]);

function versionView(
  { version, digest, manifest, attestation }: VersionRecord,
  holders: string[],
  aliases: string[],
): Omit<VersionView, "replicasWanted"> {
  return {
    name: manifest.name,
    version,
    digest,
    weightsDigest: manifest.weights.digest,
    weightsBytes: manifest.weights.bytes,
    accuracy: manifest.metrics.accuracy,
    loss: manifest.metrics.loss,
    metrics: manifest.metrics.further,
    parameterCount: manifest.model.parameterCount,
    layerCount: manifest.model.layers.length,
    jobId: manifest.lineage.jobId,
    createdAtMs: manifest.createdAtMs,
    signers: attestation?.signatures.map(({ keyid }) => keyid) ?? [],
    holders,
    aliases,
  };
}
