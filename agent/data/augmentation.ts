import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import type { RandomGenerator } from "pure-rand/types/RandomGenerator";
import { RingfoldError } from "../../protocol/errors.ts";
import type { AugmentSpec } from "../../protocol/job-spec.ts";

/**
 * Changes training examples at random, each time in another way: a function of (seed, epoch, example), so every rank, every
 * world and a job that resumes do the same to the bit.
 */
export class Augmentation {
  readonly #spec: AugmentSpec;
  readonly #seed: number;
  readonly #length: number;
  readonly #height: number;
  readonly #width: number;
  readonly #channels: number;
  readonly #before: Float32Array;

  /**
   * @param inputShape of an image [height, width, channels]; noise takes any
   * @throws RingfoldError JOB_INVALID for other examples
   */
  constructor(spec: AugmentSpec, inputShape: readonly number[], seed: number) {
    const [height = 1, width = 1, channels = 1] = inputShape;
    if (inputShape.length !== 3 && (spec.flip !== "none" || spec.shift > 0 || spec.crop > 0)) {
      const message = `augment: flip, shift and crop are for images, and an example is [${inputShape.join(", ")}]`;
      throw new RingfoldError("JOB_INVALID", message);
    }
    if (spec.crop >= Math.min(height, width) && spec.crop > 0) {
      throw new RingfoldError(
        "JOB_INVALID",
        `augment: nothing is left of ${height}x${width} after a crop of ${spec.crop}`,
      );
    }
    this.#spec = spec;
    this.#seed = seed;
    this.#length = inputShape.reduce((product, size) => product * size, 1);
    this.#height = height;
    this.#width = width;
    this.#channels = channels;
    this.#before = new Float32Array(this.#length);
  }

  /** @param inputs f32 [examples.length, ...inputShape]; changed in place */
  apply(inputs: Float32Array, examples: ArrayLike<number>, epoch: number): void {
    for (let i = 0; i < examples.length; i++) {
      const row = inputs.subarray(i * this.#length, (i + 1) * this.#length);
      const example = Math.imul(examples[i]! + 1, 0xc2b2_ae35);
      const generator = xoroshiro128plus(
        (Math.imul(this.#seed, 0x9e37_79b1) ^ Math.imul(epoch + 1, 0x85eb_ca6b) ^ example) | 0,
      );
      this.#move(row, generator);
      if (this.#spec.noise > 0) addNoise(row, this.#spec.noise, generator);
    }
  }

  /** Where each pixel of the new image was in the old one; what comes from outside is 0. */
  #move(row: Float32Array, generator: RandomGenerator): void {
    const { flip, shift, crop } = this.#spec;
    if (flip === "none" && shift === 0 && crop === 0) return;
    const isCoin = () => uniformInt(generator, 0, 1) === 1;
    const mirrored = flip !== "vertical" && flip !== "none" && isCoin();
    const upsideDown = (flip === "vertical" || flip === "both") && isCoin();
    const down = uniformInt(generator, -shift, shift);
    const right = uniformInt(generator, -shift, shift);
    const [top, left] = [uniformInt(generator, 0, crop), uniformInt(generator, 0, crop)];
    const [height, width, channels] = [this.#height, this.#width, this.#channels];
    this.#before.set(row);
    for (let y = 0; y < height; y++) {
      const flippedY = upsideDown ? height - 1 - y : y;
      // The part that is left after a crop is stretched to the whole again, by the nearest pixel.
      const fromY = top + Math.floor((flippedY * (height - crop)) / height) - down;
      for (let x = 0; x < width; x++) {
        const flippedX = mirrored ? width - 1 - x : x;
        const fromX = left + Math.floor((flippedX * (width - crop)) / width) - right;
        const isInside = fromY >= 0 && fromY < height && fromX >= 0 && fromX < width;
        const [to, from] = [(y * width + x) * channels, (fromY * width + fromX) * channels];
        for (let c = 0; c < channels; c++) row[to + c] = isInside ? this.#before[from + c]! : 0;
      }
    }
  }
}

/**
 * Twelve uniform numbers less six: nearly normal, and nothing but sums and products, so the same bits on every machine.
 * @param sd standard deviation
 */
function addNoise(row: Float32Array, sd: number, generator: RandomGenerator): void {
  for (let i = 0; i < row.length; i++) {
    let sum = -6;
    for (let n = 0; n < 12; n++) sum += (generator.next() >>> 0) / 2 ** 32;
    row[i]! += sd * sum;
  }
}
