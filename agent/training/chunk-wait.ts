import { RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import type { Clock } from "../../protocol/ports.ts";
import type { ChunksOfSet } from "../data/dataset.ts";
import { abortError } from "../deadline.ts";

/** How often a rank that waits for data looks after its ring. */
const lookMs = 100;
/** Between two attempts to get a chunk that nobody has at the moment: its holder may be starting again. */
const retryMs = 1_000;

/** What is waited for, and by whom. */
interface Awaited {
  readonly chunks: ChunksOfSet;
  readonly missing: readonly number[];
  /** Throws where the ring is no more: a rank that waits must not be the last to know. */
  readonly watch: () => void;
  /** How much of what will be needed is here; less than 1. */
  readonly share: () => number;
}

/** A rank waits for chunks of its data: with patience, an eye on its ring, and a word to the coordinator. */
export class ChunkWait {
  readonly #clock: Clock;
  readonly #onWait: ((share: number) => void) | undefined;

  /** @param onWait as that of the trainer */
  constructor(clock: Clock, onWait: ((share: number) => void) | undefined) {
    this.#clock = clock;
    this.#onWait = onWait;
  }

  /**
   * Resolves when all are here.
   * @throws RingfoldError ARTEFACT_MISSING when nobody had a chunk for 20 s; what `watch` throws; the reason of `signal`
   */
  async until({ chunks, missing, watch, share }: Awaited, signal: AbortSignal): Promise<void> {
    const stop = new AbortController();
    const endTelling = this.#every(limits.dataProgressIntervalMs, () => this.#onWait?.(share()));
    const endWatch = this.#every(lookMs, () => {
      try {
        if (signal.aborted) throw abortError(signal);
        watch();
      } catch (cause) {
        stop.abort(cause);
      }
    });
    try {
      await Promise.all(missing.map((index) => this.#bring(chunks, index, stop.signal)));
    } finally {
      endWatch();
      if (endTelling()) this.#onWait?.(1);
      stop.abort();
    }
  }

  async #bring(chunks: ChunksOfSet, index: number, signal: AbortSignal): Promise<void> {
    const endsAtMs = this.#clock.monotonicMs() + limits.dataMissingMs;
    for (;;) {
      try {
        return await chunks.bring(index, signal);
      } catch (cause) {
        if (signal.aborted) throw abortError(signal);
        const isMissing = cause instanceof RingfoldError && cause.code === "ARTEFACT_MISSING";
        if (!isMissing || this.#clock.monotonicMs() >= endsAtMs) throw cause;
      }
      const { promise, resolve } = Promise.withResolvers<void>();
      const cancelTimer = this.#clock.after(retryMs, resolve);
      signal.addEventListener("abort", () => resolve(), { once: true });
      await promise;
      cancelTimer();
      if (signal.aborted) throw abortError(signal);
    }
  }

  /** @returns ends it, and tells whether `call` was called */
  #every(ms: number, call: () => void): () => boolean {
    let wasCalled = false;
    const tick = () => {
      cancel = this.#clock.after(ms, tick);
      wasCalled = true;
      call();
    };
    let cancel = this.#clock.after(ms, tick);
    return () => {
      cancel();
      return wasCalled;
    };
  }
}
