import { rm } from "node:fs/promises";
import { toRingfoldError } from "../../protocol/errors.ts";
import type { DatasetManifest } from "../../protocol/messages/dataset.ts";
import type { Clock, Log } from "../../protocol/ports.ts";
import { findMarks } from "../data/preparation/preparation-mark.ts";
import { freeTableFolders } from "../data/preparation/table-folder.ts";
import type { ArtefactStore } from "./store.ts";
import { readManifest } from "./stored-manifest.ts";

export interface LeftoversModules {
  readonly store: ArtefactStore;
  /** Data folder of the agent. */
  readonly folder: string;
  /** Whether the coordinator knows a data set of this digest. */
  readonly isRegistered: (manifest: string, signal: AbortSignal) => Promise<boolean>;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Frees what preparations have left that were killed and that nobody has begun again for a day: chunks that no manifest names, a manifest
 * that was never registered, temporary tables. Chunks that a trainer has fetched stay, as their manifest is here.
 */
export class Leftovers {
  readonly #modules: LeftoversModules;

  constructor(modules: LeftoversModules) {
    this.#modules = modules;
  }

  /** Never throws: what cannot be freed now is freed in the next round. */
  async free(signal: AbortSignal): Promise<void> {
    const { log, store } = this.#modules;
    try {
      await freeTableFolders();
      if (!(await this.#endMarks(signal))) return;
      const unnamed = this.#unnamedParts();
      for (const digest of unnamed) {
        if (signal.aborted || (await this.#isPrepared())) return;
        await store.remove(digest);
      }
      if (unnamed.length > 0) log.info({ chunks: unnamed.length }, "Freed chunks of no data set");
    } catch (cause) {
      if (!signal.aborted) log.warn({ err: toRingfoldError(cause) }, "Leftovers of a preparation stay here");
    }
  }

  async #isPrepared(): Promise<boolean> {
    const { folder, clock } = this.#modules;
    return (await findMarks(folder, clock.nowMs())).some(({ isAlive }) => isAlive);
  }

  /** Ends the marks of the dead. @returns whether no mark is left */
  async #endMarks(signal: AbortSignal): Promise<boolean> {
    const { folder, clock, store, isRegistered, log } = this.#modules;
    const marks = await findMarks(folder, clock.nowMs());
    if (marks.some(({ isAlive }) => isAlive)) return false;
    for (const { path, manifest } of marks) {
      if (manifest !== undefined && store.stat(manifest) !== undefined) {
        if (!(await isRegistered(manifest, signal))) {
          await store.remove(manifest);
          log.info({ digest: manifest }, "Freed a data set that was never registered");
        }
      }
      await rm(path, { force: true });
    }
    return true;
  }

  /** Parts that are neither a manifest nor named by one. Those first: what comes meanwhile is not among them. */
  #unnamedParts(): string[] {
    const { store } = this.#modules;
    const parts = store.unlisted();
    if (parts.length === 0) return [];
    const named = new Set<string>();
    const take = (digest: string): boolean => {
      const manifest = readManifest(store, digest);
      for (const chunk of manifest ? chunksOf(manifest) : []) named.add(chunk);
      return manifest !== undefined;
    };
    for (const digest of store.list()) take(digest);
    return parts
      .filter((digest) => !named.has(digest))
      .filter((digest) => !take(digest))
      .filter((digest) => !named.has(digest));
  }
}

const chunksOf = ({ train, test }: DatasetManifest): string[] => [...train.chunks, ...test.chunks];
