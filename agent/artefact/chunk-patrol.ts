import { RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import type { Clock, Log } from "../../protocol/ports.ts";
import type { ArtefactStore } from "./store.ts";
import { readManifest } from "./stored-manifest.ts";

export interface ChunkPatrolModules {
  readonly store: ArtefactStore;
  /** Takes a damaged artefact away and brings it anew. @param manifest whose holders have it */
  readonly fetchPart: (manifest: string, digest: string, signal: AbortSignal) => Promise<void>;
  /** Work that is due as often as a round, after it. */
  readonly tidy?: (signal: AbortSignal) => Promise<void>;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * Looks at every chunk of the data sets that are held here, one after the other and slowly: a damaged one is best found
 * while another holder lives, and not when the training needs it. Cost: a twentieth of a core while it goes round.
 */
export class ChunkPatrol {
  readonly #modules: ChunkPatrolModules;
  readonly #closed = new AbortController();
  #round: Promise<void> = Promise.resolve();
  #wake = () => {};

  constructor(modules: ChunkPatrolModules) {
    this.#modules = modules;
  }

  start(): void {
    this.#round = this.#patrol();
  }

  async close(): Promise<void> {
    this.#closed.abort(new RingfoldError("CANCELLED", "the agent ends"));
    this.#wake();
    await this.#round;
  }

  async #patrol(): Promise<void> {
    const { signal } = this.#closed;
    while (!signal.aborted) {
      const lacking = await this.#goRound();
      if (!signal.aborted) await this.#modules.tidy?.(signal);
      await this.#pause(lacking > 0 ? limits.patrolRetryMs : limits.patrolIntervalMs);
    }
  }

  /** @returns how many chunks are neither here nor to be had now */
  async #goRound(): Promise<number> {
    const { store, fetchPart, log } = this.#modules;
    let lacking = 0;
    for (const manifestDigest of store.list()) {
      const manifest = readManifest(store, manifestDigest);
      for (const chunk of manifest ? [...manifest.train.chunks, ...manifest.test.chunks] : []) {
        await this.#pause(limits.patrolPauseMs);
        if (this.#closed.signal.aborted) return lacking;
        // A data set that is forgotten meanwhile lacks nothing.
        if (isWhole(store, chunk) || store.stat(manifestDigest) === undefined) continue;
        try {
          await fetchPart(manifestDigest, chunk, this.#closed.signal);
        } catch (cause) {
          if (this.#closed.signal.aborted) return lacking;
          log.warn({ err: cause, digest: manifestDigest, chunk }, "A chunk of a held data set is lacking");
          lacking++;
        }
      }
    }
    return lacking;
  }

  async #pause(ms: number): Promise<void> {
    if (this.#closed.signal.aborted) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#wake = resolve;
    const cancelTimer = this.#modules.clock.after(ms, resolve);
    await promise;
    cancelTimer();
  }
}

function isWhole(store: ArtefactStore, digest: string): boolean {
  try {
    store.get(digest);
    return true;
  } catch (error) {
    if (error instanceof RingfoldError && error.code.startsWith("ARTEFACT_")) return false;
    throw error;
  }
}
