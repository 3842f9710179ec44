import { createHash } from "node:crypto";
import { encode } from "../protocol/codec.ts";
import { RingfoldError } from "../protocol/errors.ts";
import type { VersionView } from "../protocol/messages/api.ts";
import type { VersionManifest } from "../protocol/messages/model.ts";
import type { Store, StoreWrite } from "../protocol/ports.ts";
import { numberVersion, type VersionRecord } from "./decide/version.ts";
import { collections, padded } from "./state.ts";

const nobody: string[] = [];
type Holders = ReadonlyMap<string, string[]>;

/** Versions: immutable, content-addressed by their manifest, numbered by name. */
export class VersionRegistry {
  readonly #versions = new Map<string, VersionRecord[]>();
  readonly #views = new WeakMap<VersionRecord, VersionView>();

  constructor(store: Store) {
    for (const record of collections.versions.readAll(store)) this.#list(record.manifest.name).push(record);
  }

  /** Numbers a new version. Call `commit` once the returned write is durable. */
  prepare(manifest: VersionManifest): { record: VersionRecord; write: StoreWrite } {
    const digest = createHash("sha256").update(encode(manifest)).digest("hex");
    const record = numberVersion(this.#list(manifest.name), { digest, manifest });
    const id = `${manifest.name}/${padded(record.version)}`;
    return { record, write: collections.versions.put(id, record) };
  }

  commit(record: VersionRecord): void {
    this.#list(record.manifest.name).push(record);
  }

  /** @throws RingfoldError NOT_FOUND */
  get(name: string, version: number): VersionRecord {
    const found = this.#versions.get(name)?.find((record) => record.version === version);
    if (!found)
      throw new RingfoldError("NOT_FOUND", `there is no version ${name}@${version}`, { name, version });
    return found;
  }

  /** @param holders peers by the digest of what they hold */
  views(holders: Holders): VersionView[] {
    return [...this.#versions.values()].flat().map((record) => this.view(record, holders));
  }

  /** The same object as long as it shows the same: of ten thousand versions few change, and only in who holds them. */
  view(record: VersionRecord, holders: Holders): VersionView {
    const held = holders.get(record.manifest.weights.digest) ?? nobody;
    const known = this.#views.get(record);
    if (known && isSame(known.holders, held)) return known;
    const view = versionView(record, held);
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

function versionView({ version, digest, manifest }: VersionRecord, holders: string[]): VersionView {
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
    holders,
  };
}
