import { decode } from "../../protocol/codec.ts";
import { toRingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import { holdArtefacts } from "../../protocol/messages/artefact.ts";
import { type DatasetManifest, datasetManifestSchema } from "../../protocol/messages/dataset.ts";
import type { ClusterNetwork, Log } from "../../protocol/ports.ts";
import type { TermFence } from "../membership/term-fence.ts";
import type { ArtefactStore } from "./store.ts";

export interface ArtefactKeeperModules {
  readonly network: ClusterNetwork;
  readonly fence: TermFence;
  readonly store: ArtefactStore;
  /** Brings an artefact into the store, unlisted. @param manifest whose holders have it */
  readonly fetchPart: (manifest: string, digest: string, signal: AbortSignal) => Promise<void>;
  /** Brings an artefact into the store, and lists it. */
  readonly fetchWhole: (digest: string, signal: AbortSignal) => Promise<unknown>;
  /** Whether a trainer of a job runs here. */
  readonly isTraining: (jobId: string) => boolean;
  readonly log: Log;
}

/**
 * Holds the data sets and the weights of versions that the coordinator asks this agent to hold, beside those that came here
 * by themselves. A manifest is listed
 * in the store only once all chunks are there: whoever says that it holds a data set holds all of it.
 */
export class ArtefactKeeper {
  readonly #modules: ArtefactKeeperModules;
  readonly #closed = new AbortController();
  /** One after the other: copies are no reason to slow a training down. */
  #work: Promise<void> = Promise.resolve();
  readonly #pending = new Set<string>();

  constructor(modules: ArtefactKeeperModules) {
    this.#modules = modules;
    modules.network.handle(holdArtefacts, async (request, { from }) => {
      const { term, hold, keep, forget, weights, checkpoints } = request;
      modules.fence.check(term, from);
      for (const digest of hold) this.#hold(digest, () => this.#fetchDataset(digest));
      for (const digest of weights.hold) this.#hold(digest, () => this.#fetchWeights(digest));
      if (forget.length > 0) this.#then(() => this.#forgetDatasets(forget, keep));
      if (weights.forget.length > 0) this.#then(() => this.#forgetWeights(weights.forget));
      if (checkpoints.length > 0) this.#then(() => this.#forgetCheckpoints(checkpoints));
      return { ok: true };
    });
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await this.#work;
  }

  #hold(digest: string, fetch: () => Promise<void>): void {
    const { store } = this.#modules;
    if (this.#pending.has(digest) || store.lists(digest)) return;
    this.#pending.add(digest);
    this.#then(() => fetch().finally(() => this.#pending.delete(digest)));
  }

  #then(work: () => Promise<void>): void {
    this.#work = this.#work.then(async () => {
      if (this.#closed.signal.aborted) return;
      try {
        await work();
      } catch (error) {
        // The coordinator sees that it is not held here, and asks again.
        if (!this.#closed.signal.aborted)
          this.#modules.log.warn(
            { err: toRingfoldError(error) },
            "What this agent is to hold was not copied",
          );
      }
    });
  }

  async #fetchDataset(digest: string): Promise<void> {
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

  async #fetchWeights(digest: string): Promise<void> {
    await this.#modules.fetchWhole(digest, this.#closed.signal);
    this.#modules.log.info({ digest }, "Holds the weights of a version");
  }

  async #forgetWeights(digests: readonly string[]): Promise<void> {
    const { store, log } = this.#modules;
    for (const digest of digests) {
      if (store.stat(digest) === undefined) continue;
      await store.remove(digest);
      log.info({ digest }, "Removed the weights of a version");
    }
  }

  /** Trials of one seed may have come to one state, and what another name refers to stays. */
  async #forgetCheckpoints(jobIds: readonly string[]): Promise<void> {
    const { store, log, isTraining } = this.#modules;
    const names = new Map(store.names());
    const isOf = (name: string, jobId: string) =>
      name === `checkpoint/${jobId}` || name.startsWith(`checkpoint/${jobId}/`);
    for (const jobId of jobIds) {
      // Tried again since this was said.
      const gone = isTraining(jobId) ? [] : [...names].filter(([name]) => isOf(name, jobId));
      for (const [name, { digest }] of gone) {
        const isShared = [...names].some(([other, each]) => each.digest === digest && !isOf(other, jobId));
        // The name last: whatever interrupts us, it still says what is left to remove.
        if (!isShared) await store.remove(digest);
        await store.removeName(name);
        names.delete(name);
      }
      if (gone.length > 0) log.info({ jobId, count: gone.length }, "Removed the checkpoints of a job");
    }
  }

  async #forgetDatasets(digests: readonly string[], keep: readonly string[]): Promise<void> {
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
