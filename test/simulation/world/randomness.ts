import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";

/** Everything that chance decides in a simulated world, from one seed. */
export class Randomness {
  readonly #generator: ReturnType<typeof xoroshiro128plus>;

  constructor(seed: number) {
    this.#generator = xoroshiro128plus(seed | 0);
  }

  /** A whole number, both ends included. */
  integer(min: number, max: number): number {
    return uniformInt(this.#generator, min, max);
  }

  /** A real number in [min, max). */
  real(min: number, max: number): number {
    return min + uniformFloat64(this.#generator) * (max - min);
  }

  chance(probability: number): boolean {
    return probability > 0 && uniformFloat64(this.#generator) < probability;
  }

  /** @param choices not empty */
  pick<T>(choices: readonly T[]): T {
    return choices[this.integer(0, choices.length - 1)]!;
  }

  /** Mostly close to `min`, now and then near `max`: faults that fall together find more than faults that take turns. */
  skewed(min: number, max: number): number {
    return min + uniformFloat64(this.#generator) ** 3 * (max - min);
  }

  /** An independent stream, so that drawing more in one place does not change another. */
  fork(): Randomness {
    return new Randomness(this.integer(0, 0x7fff_ffff));
  }
}
