import assert from "node:assert";
import { EpochOrder } from "./epoch-order.ts";

/** Batches that are kept: a step is asked for several times, and so is the one after it. */
const batchesKept = 4;

/** Where a rank stands among those who share a step's batch. */
export interface Place {
  readonly rank: number;
  readonly worldSize: number;
  /** How much of it each of them takes, in proportion: positive integers. Even parts unless told. */
  readonly weights?: readonly number[] | undefined;
}

/**
 * Which examples a rank trains on. A step's global batch is a function of (seed, step) alone and is cut among the ranks
 * there are, so that every example is used exactly once an epoch whatever joins and leaves happen on the way.
 *
 * Of a data set in chunks the order is that of a shuffle buffer: the chunks are permuted, the examples of each eight of
 * them mixed, and a batch lies in the order of its chunks. So a step needs eight chunks and not all, and a rank few of those.
 */
export class Sampler {
  readonly exampleCount: number;
  readonly batchSize: number;
  readonly stepsPerEpoch: number;
  readonly #seed: number;
  readonly #chunkExamples: number;
  /** Of the last two epochs that were asked for: whoever looks ahead may look into the next one. */
  readonly #orders = new Map<number, EpochOrder>();
  /** By step; the oldest first. */
  readonly #batches = new Map<number, Uint32Array>();

  constructor(options: {
    readonly exampleCount: number;
    readonly batchSize: number;
    readonly seed: number;
    /** Of a data set in chunks. */
    readonly chunkExamples?: number;
  }) {
    assert(options.exampleCount > 0 && options.batchSize > 0);
    this.exampleCount = options.exampleCount;
    this.batchSize = options.batchSize;
    this.#seed = options.seed;
    this.#chunkExamples = options.chunkExamples ?? options.exampleCount;
    this.stepsPerEpoch = Math.ceil(options.exampleCount / options.batchSize);
  }

  /** Example indices of step `step` (from 0) on this rank; empty when there are more ranks than examples. */
  slice(at: Place & { readonly step: number }): Uint32Array {
    const batch = this.#batches.get(at.step) ?? this.#batchOf(at.step);
    const { start, end } = shareOf(batch.length, at);
    return batch.subarray(start, end);
  }

  #batchOf(step: number): Uint32Array {
    const start = (step % this.stepsPerEpoch) * this.batchSize;
    const end = Math.min(start + this.batchSize, this.exampleCount);
    const taken = this.#orderOf(Math.floor(step / this.stepsPerEpoch)).slice({ start, end });
    const isChunked = this.#chunkExamples < this.exampleCount;
    const batch = isChunked ? taken.toSorted() : taken; // in the order of its chunks
    this.#batches.set(step, batch);
    if (this.#batches.size > batchesKept) this.#batches.delete(this.#batches.keys().next().value!);
    return batch;
  }

  #orderOf(epoch: number): EpochOrder {
    const known = this.#orders.get(epoch);
    if (known) return known;
    for (const past of [...this.#orders.keys()].slice(0, -1)) this.#orders.delete(past);
    const { exampleCount } = this;
    const order = new EpochOrder({
      exampleCount,
      chunkExamples: this.#chunkExamples,
      seed: this.#seed,
      epoch,
    });
    this.#orders.set(epoch, order);
    return order;
  }
}

/** The part of `count` things that belongs to a place: as close to its proportion as whole things can be. */
export function shareOf(count: number, { rank, worldSize, weights }: Place): { start: number; end: number } {
  const sum = (ranks: number) =>
    weights ? weights.slice(0, ranks).reduce((total, weight) => total + weight, 0) : ranks;
  const cut = (ranks: number) => Math.floor((sum(ranks) * count) / sum(worldSize));
  return { start: cut(rank), end: cut(rank + 1) };
}
