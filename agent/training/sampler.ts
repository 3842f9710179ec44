import assert from "node:assert";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import type { RandomGenerator } from "pure-rand/types/RandomGenerator";

/** Chunks whose examples are mixed with each other: what has to be in memory at once. */
const windowChunks = 8;

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
  readonly #permutations = new Map<number, Uint32Array>();

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
    const permutation = this.#permutationOf(Math.floor(at.step / this.stepsPerEpoch));
    const start = (at.step % this.stepsPerEpoch) * this.batchSize;
    const size = Math.min(this.batchSize, this.exampleCount - start);
    const { start: from, end: to } = shareOf(size, at);
    return permutation.subarray(start + from, start + to);
  }

  #order(epoch: number): Uint32Array {
    const chunkExamples = this.#chunkExamples;
    const generator = generatorOf(this.#seed, epoch);
    if (chunkExamples >= this.exampleCount) return shuffled(counted(this.exampleCount), generator);
    const order = new Uint32Array(this.exampleCount);
    const chunks = shuffled(counted(Math.ceil(this.exampleCount / chunkExamples)), generator);
    let end = 0;
    for (let first = 0; first < chunks.length; first += windowChunks) {
      const start = end;
      for (const chunk of chunks.subarray(first, first + windowChunks)) {
        const last = Math.min(this.exampleCount, (chunk + 1) * chunkExamples);
        for (let example = chunk * chunkExamples; example < last; example++) order[end++] = example;
      }
      shuffled(order.subarray(start, end), generator);
    }
    for (let start = 0; start < order.length; start += this.batchSize)
      order.subarray(start, start + this.batchSize).sort();
    return order;
  }

  #permutationOf(epoch: number): Uint32Array {
    const known = this.#permutations.get(epoch);
    if (known) return known;
    for (const past of [...this.#permutations.keys()].slice(0, -1)) this.#permutations.delete(past);
    const permutation = this.#order(epoch);
    this.#permutations.set(epoch, permutation);
    return permutation;
  }
}

/** The part of `count` things that belongs to a place: as close to its proportion as whole things can be. */
export function shareOf(count: number, { rank, worldSize, weights }: Place): { start: number; end: number } {
  const sum = (ranks: number) =>
    weights ? weights.slice(0, ranks).reduce((total, weight) => total + weight, 0) : ranks;
  const cut = (ranks: number) => Math.floor((sum(ranks) * count) / sum(worldSize));
  return { start: cut(rank), end: cut(rank + 1) };
}

const counted = (count: number): Uint32Array => Uint32Array.from({ length: count }, (_, i) => i);

const generatorOf = (seed: number, epoch: number): RandomGenerator =>
  xoroshiro128plus((Math.imul(seed, 0x9e37_79b1) ^ Math.imul(epoch + 1, 0x85eb_ca6b)) | 0);

/** In place. Fisher-Yates over xoroshiro128+ (pure-rand): integer arithmetic only, so the same on every machine. */
function shuffled(order: Uint32Array, generator: RandomGenerator): Uint32Array {
  for (let i = order.length - 1; i > 0; i--) {
    const j = uniformInt(generator, 0, i);
    const swapped = order[i]!;
    order[i] = order[j]!;
    order[j] = swapped;
  }
  return order;
}
