import { decode } from "../../protocol/codec.ts";
import { toRingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import {
  type DatasetManifest,
  datasetManifestSchema,
  holdDatasets,
} from "../../protocol/messages/dataset.ts";
import type { ClusterNetwork, Log } from "../../protocol/ports.ts";
import type { TermFence } from "../membership/term-fence.ts";
import type { ArtefactStore } from "./store.ts";

export interface DatasetKeeperModules {
  readonly network: ClusterNetwork;
  readonly fence: TermFence;
  readonly store: ArtefactStore;
  /** Brings an artefact into the store, unlisted. @param manifest whose holders have it */
  readonly fetchPart: (manifest: string, digest: string, signal: AbortSignal) => Promise<void>;
  readonly log: Log;
}

/**
 * Holds the data sets that the coordinator asks this agent to hold, beside those that were added here. A manifest is listed
 * in the store only once all chunks are there: whoever says that it holds a data set holds all of it.
 */
export class DatasetKeeper {
  readonly #modules: DatasetKeeperModules;
  readonly #closed = new AbortController();
  /** One after the other: copies are no reason to slow a training down. */
  #work: Promise<void> = Promise.resolve();
  readonly #pending = new Set<string>();

  constructor(modules: DatasetKeeperModules) {
    this.#modules = modules;
    modules.network.handle(holdDatasets, async ({ term, hold, keep, forget }, { from }) => {
      modules.fence.check(term, from);
      for (const digest of hold) this.#hold(digest);
      if (forget.length > 0) this.#then(() => this.#forget(forget, keep));
      return { ok: true };
    });
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await this.#work;
  }

  #hold(digest: string): void {
    const { store } = this.#modules;
    if (this.#pending.has(digest) || store.list().includes(digest)) return;
    this.#pending.add(digest);
    this.#then(() => this.#fetch(digest).finally(() => this.#pending.delete(digest)));
  }

  #then(work: () => Promise<void>): void {
    this.#work = this.#work.then(async () => {
      if (this.#closed.signal.aborted) return;
      try {
        await work();
      } catch (error) {
        // The coordinator sees that it is not held here, and asks again.
        if (!this.#closed.signal.aborted)
          this.#modules.log.warn({ err: toRingfoldError(error) }, "A data set was not copied");
      }
    });
  }

  async #fetch(digest: string): Promise<void> {
    const { store, fetchPart, log } = this.#modules;
    const { signal } = this.#closed;
    await fetchPart(digest, digest, signal);
    const bytes = store.get(digest);
    const { train, test } = readManifest(bytes);
    for (const chunk of [...train.chunks, ...test.chunks])
      if (store.stat(chunk) === undefined) await fetchPart(digest, chunk, signal);
    await store.put(bytes);
    log.info({ digest, examples: train.count + test.count }, "Holds a data set");
  }

  async #forget(digests: readonly string[], keep: readonly string[]): Promise<void> {
    const { store, log } = this.#modules;
    const here = digests.filter((digest) => store.stat(digest) !== undefined);
    if (here.length === 0) return;
    const kept = new Set(
      keep
        .filter((digest) => store.stat(digest) !== undefined)
        .flatMap((digest) => chunksOf(readManifest(store.get(digest)))),
    );
    for (const digest of here) {
      const chunks = chunksOf(readManifest(store.get(digest)));
      // The manifest last: whatever interrupts us, it still names what is left to remove.
      for (const chunk of chunks) if (!kept.has(chunk)) await store.remove(chunk);
      await store.remove(digest);
      log.info({ digest }, "Removed a data set");
    }
  }
}

const readManifest = (bytes: Uint8Array): DatasetManifest =>
  decode(bytes, datasetManifestSchema, limits.datasetManifestBytes);
const chunksOf = ({ train, test }: DatasetManifest): string[] => [...train.chunks, ...test.chunks];
