import assert from "node:assert";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";

/** Where a rank stands among those who share a step's batch. */
export interface Place {
  readonly rank: number;
  readonly worldSize: number;
}

/**
 * Which examples a rank trains on. A step's global batch is a function of (seed, step) alone and is cut among the ranks
 * there are, so that every example is used exactly once an epoch whatever joins and leaves happen on the way.
 */
export class Sampler {
  readonly exampleCount: number;
  readonly batchSize: number;
  readonly stepsPerEpoch: number;
  readonly #seed: number;
  #epoch = -1;
  #permutation: Uint32Array = new Uint32Array(0);

  constructor(options: { readonly exampleCount: number; readonly batchSize: number; readonly seed: number }) {
    assert(options.exampleCount > 0 && options.batchSize > 0);
    this.exampleCount = options.exampleCount;
    this.batchSize = options.batchSize;
    this.#seed = options.seed;
    this.stepsPerEpoch = Math.ceil(options.exampleCount / options.batchSize);
  }

  /** Example indices of step `step` (from 0) on this rank; empty when there are more ranks than examples. */
  slice(at: Place & { readonly step: number }): Uint32Array {
    const permutation = this.#permutationOf(Math.floor(at.step / this.stepsPerEpoch));
    const start = (at.step % this.stepsPerEpoch) * this.batchSize;
    const size = Math.min(this.batchSize, this.exampleCount - start);
    const { start: from, end: to } = evenShare({ count: size, rank: at.rank, worldSize: at.worldSize });
    return permutation.subarray(start + from, start + to);
  }

  #permutationOf(epoch: number): Uint32Array {
    if (epoch !== this.#epoch) {
      this.#permutation = permutation({ count: this.exampleCount, seed: this.#seed, epoch });
      this.#epoch = epoch;
    }
    return this.#permutation;
  }
}

/** Rank's part of `count` things, parts as equal as can be. */
export function evenShare(of: {
  readonly count: number;
  readonly rank: number;
  readonly worldSize: number;
}): {
  start: number;
  end: number;
} {
  const cut = (rank: number) => Math.floor((rank * of.count) / of.worldSize);
  return { start: cut(of.rank), end: cut(of.rank + 1) };
}

/** Fisher-Yates over xoroshiro128+ (pure-rand): integer arithmetic only, so the same on every machine. */
function permutation({ count, seed, epoch }: { count: number; seed: number; epoch: number }): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  const generator = xoroshiro128plus((Math.imul(seed, 0x9e37_79b1) ^ Math.imul(epoch + 1, 0x85eb_ca6b)) | 0);
  for (let i = count - 1; i > 0; i--) {
    const j = uniformInt(generator, 0, i);
    const swapped = order[i]!;
    order[i] = order[j]!;
    order[j] = swapped;
  }
  return order;
}
