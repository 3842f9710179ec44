import { isDeepStrictEqual } from "node:util";
import type { Clock } from "../../protocol/ports.ts";
import type { ChunksOfSet, Dataset, ExampleSet } from "../data/dataset.ts";
import type { ElementRange } from "../ring/chunks.ts";
import { ChunkWait } from "./chunk-wait.ts";
import { type Place, type Sampler, shareOf } from "./sampler.ts";

/** Chunks of the next steps that are asked for ahead: 32 MiB as f32, and of a rank among many several windows of the sampler. */
const chunksAhead = 16;
/** Steps whose chunks are kept: the present one and the next are asked for several times. */
const stepsKept = 4;

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
  /** By step, of the last ones that were asked for. */
  readonly #chunksOfStep = new Map<number, readonly number[]>();
  /** Chunks of its share of the held-out set. */
  #heldOut: readonly number[] = [];
  readonly #wait: ChunkWait;

  constructor(modules: Modules) {
    this.#modules = modules;
    this.#wait = new ChunkWait(modules.clock, modules.onWait);
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
      this.#chunksOfStep.clear();
      this.turnToHeldOut(at.place);
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
    const share = () => shareHere(chunks, [...this.#needed.keys()]);
    await this.#wait.until({ chunks, missing, watch, share }, signal);
  }

  /** Tells which part of the held-out set is evaluated here, and asks for it. */
  turnToHeldOut(place: Place): void {
    const { test } = this.#modules.data;
    this.#heldOut = chunksOfRange(test, shareOf(test.count, place));
    test.chunks?.expect(this.#heldOut);
  }

  /**
   * Waits until these held-out examples, which lie together, are here. No vote goes before it: whoever evaluates is
   * given a minute by the others in any case.
   * @throws as `arrive`
   */
  async arriveHeldOut(range: ElementRange, watch: () => void, signal: AbortSignal): Promise<void> {
    const { test } = this.#modules.data;
    const { chunks } = test;
    const missing = chunksOfRange(test, range).filter((index) => chunks?.has(index) === false);
    if (!chunks || missing.length === 0) return;
    const share = () => shareHere(chunks, this.#heldOut);
    await this.#wait.until({ chunks, missing, watch, share }, signal);
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
  #chunksOf(step: number): readonly number[] {
    if (!this.#place) return [];
    const known = this.#chunksOfStep.get(step);
    if (known) return known;
    const { sampler, data } = this.#modules;
    const { chunkExamples = data.train.count } = data.train;
    const indices = new Set<number>();
    for (const example of sampler.slice({ step, ...this.#place }))
      indices.add(Math.floor(example / chunkExamples));
    const chunks = [...indices];
    this.#chunksOfStep.set(step, chunks);
    if (this.#chunksOfStep.size > stepsKept)
      this.#chunksOfStep.delete(this.#chunksOfStep.keys().next().value!);
    return chunks;
  }
}

/** Chunks of examples that lie together, in order. */
function chunksOfRange(
  { count: all, chunkExamples = all }: ExampleSet,
  { start, end }: ElementRange,
): number[] {
  const first = Math.floor(start / chunkExamples);
  const count = start === end ? 0 : Math.ceil(end / chunkExamples) - first;
  return Array.from({ length: count }, (_, i) => first + i);
}

/** Of these chunks, those that are here; less than 1. */
const shareHere = (chunks: ChunksOfSet, needed: readonly number[]): number =>
  Math.min(0.99, needed.filter((index) => chunks.has(index)).length / Math.max(1, needed.length));
