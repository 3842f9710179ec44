import { isDeepStrictEqual } from "node:util";
import { RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import type { Clock } from "../../protocol/ports.ts";
import type { Dataset } from "../data/dataset.ts";
import { abortError } from "../deadline.ts";
import { type Place, type Sampler, shareOf } from "./sampler.ts";

/** Chunks of the next steps that are asked for ahead: 32 MiB as f32, and of a rank among many several windows of the sampler. */
const chunksAhead = 16;
/** How often a rank that waits for data looks after its ring. */
const lookMs = 100;
/** Between two attempts to get a chunk that nobody has at the moment: its holder may be starting again. */
const retryMs = 1_000;

interface Modules {
  readonly data: Dataset;
  readonly sampler: Sampler;
  readonly totalSteps: number;
  readonly clock: Clock;
  /** As that of the trainer. */
  readonly onWait?: (share: number) => void;
}

/**
 * Sees to it that the chunks of this rank's next steps are on its disk before they are needed. A rank fetches what its own
 * share takes and nothing else, as its place says; where places change, everyone may have to wait for other chunks, and
 * a rank that is about to wait says so in the totals of the step before, so that nobody takes it for stalled.
 */
export class DataAhead {
  readonly #modules: Modules;
  #place: Place | undefined;
  /** Steps before this one have been looked at. */
  #lookedUntil = 0;
  /** Chunks of the steps from the present one to `lookedUntil`, in the order of need, with the last step that needs each. */
  readonly #needed = new Map<number, number>();

  constructor(modules: Modules) {
    this.#modules = modules;
  }

  /** Another ring: nothing is known of who waits for data. */
  begin(): void {
    this.#place = undefined;
  }

  /**
   * Tells which share the next steps are, and asks for what they need.
   * @param at.lateVotes of the ranks, in the step before
   * @returns whether some rank may wait for data in the next step: all ranks tell alike
   */
  turnTo(at: { readonly step: number; readonly place: Place; readonly lateVotes: number }): boolean {
    if (this.#modules.data.train.chunks === undefined) return false;
    const isSame = isDeepStrictEqual(at.place, this.#place);
    if (!isSame) {
      this.#place = at.place;
      this.#needed.clear();
      this.#expectHeldOut(at.place);
    }
    this.#look(at.step);
    return !isSame || at.lateVotes > 0;
  }

  /** Whether this rank has not yet all that this step takes of its share. */
  isLate(step: number): boolean {
    const { chunks } = this.#modules.data.train;
    if (!chunks || step >= this.#modules.totalSteps) return false;
    return this.#chunksOf(step).some((index) => !chunks.has(index));
  }

  /**
   * Waits until the chunks of this step are here, and asks for those of later ones.
   * @param watch throws where the ring is no more: a rank that waits must not be the last to know
   * @throws RingfoldError ARTEFACT_MISSING when nobody had a chunk for 20 s; what `watch` throws; the reason of `signal`
   */
  async arrive(step: number, watch: () => void, signal: AbortSignal): Promise<void> {
    const { chunks } = this.#modules.data.train;
    if (!chunks) return;
    this.#look(step); // of several local steps only the first was told
    const missing = this.#chunksOf(step).filter((index) => !chunks.has(index));
    if (missing.length === 0) return;
    const stop = new AbortController();
    const endTelling = this.#every(limits.dataProgressIntervalMs, () =>
      this.#modules.onWait?.(this.#share()),
    );
    const endWatch = this.#every(lookMs, () => {
      try {
        if (signal.aborted) throw abortError(signal);
        watch();
      } catch (cause) {
        stop.abort(cause);
      }
    });
    try {
      await Promise.all(missing.map((index) => this.#bring(index, stop.signal)));
    } finally {
      endWatch();
      if (endTelling()) this.#modules.onWait?.(1);
      stop.abort();
    }
  }

  /** Of the chunks that are asked for, those that are here; less than 1. */
  #share(): number {
    const { chunks } = this.#modules.data.train;
    const needed = [...this.#needed.keys()];
    return Math.min(0.99, needed.filter((index) => chunks?.has(index)).length / Math.max(1, needed.length));
  }

  async #bring(index: number, signal: AbortSignal): Promise<void> {
    const { data, clock } = this.#modules;
    const endsAtMs = clock.nowMs() + limits.dataMissingMs;
    for (;;) {
      try {
        return await data.train.chunks!.bring(index, signal);
      } catch (cause) {
        if (signal.aborted) throw abortError(signal);
        const isMissing = cause instanceof RingfoldError && cause.code === "ARTEFACT_MISSING";
        if (!isMissing || clock.nowMs() >= endsAtMs) throw cause;
      }
      const { promise, resolve } = Promise.withResolvers<void>();
      const cancelTimer = clock.after(retryMs, resolve);
      signal.addEventListener("abort", () => resolve(), { once: true });
      await promise;
      cancelTimer();
      if (signal.aborted) throw abortError(signal);
    }
  }

  /** Keeps `needed` up to date, and says so to the set: a scan of one step for each that was made, more only where the place has changed. */
  #look(step: number): void {
    const { data, sampler, totalSteps } = this.#modules;
    if (this.#needed.size === 0 || step > this.#lookedUntil) {
      this.#needed.clear();
      this.#lookedUntil = step;
    }
    for (const [index, lastStep] of this.#needed) if (lastStep < step) this.#needed.delete(index);
    const end = Math.min(totalSteps, step + sampler.stepsPerEpoch);
    while (this.#lookedUntil < end && this.#needed.size < chunksAhead) {
      for (const index of this.#chunksOf(this.#lookedUntil)) this.#needed.set(index, this.#lookedUntil);
      this.#lookedUntil++;
    }
    data.train.chunks?.expect([...this.#needed.keys()]);
  }

  /** Of this rank's share of a step, in the order of the batch. */
  #chunksOf(step: number): number[] {
    const { sampler, data } = this.#modules;
    if (!this.#place) return [];
    const { chunkExamples = data.train.count } = data.train;
    const examples = sampler.slice({ step, ...this.#place });
    const indices = new Set<number>();
    for (const example of examples) indices.add(Math.floor(example / chunkExamples));
    return [...indices];
  }

  #expectHeldOut(place: Place): void {
    const { test } = this.#modules.data;
    const { chunkExamples = test.count } = test;
    const { start, end } = shareOf(test.count, place);
    const first = Math.floor(start / chunkExamples);
    const count = start === end ? 0 : Math.ceil(end / chunkExamples) - first;
    test.chunks?.expect(Array.from({ length: count }, (_, i) => first + i));
  }

  /** @returns ends it, and tells whether `call` was called */
  #every(ms: number, call: () => void): () => boolean {
    const { clock } = this.#modules;
    let wasCalled = false;
    const tick = () => {
      cancel = clock.after(ms, tick);
      wasCalled = true;
      call();
    };
    let cancel = clock.after(ms, tick);
    return () => {
      cancel();
      return wasCalled;
    };
  }
}
