import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import type { RandomGenerator } from "pure-rand/types/RandomGenerator";
import type { ElementRange } from "../ring/chunks.ts";

/** Chunks whose examples are mixed with each other: what has to be in memory at once. */
const windowChunks = 8;
/** Windows that are kept shuffled: those of the present step, and of the steps that are looked at ahead. */
const windowsKept = 8;

/**
 * In which order an epoch takes the examples: a permutation that is a function of seed and epoch. It is drawn window by
 * window, as far as steps have come: all at once was seconds for tens of millions of examples, in which the ring waited.
 *
 * Windows are drawn one after the other from one generator. So that one in the middle can be had at once, as when a job
 * goes on, those before it are passed over without being made (8 ns an example), and it is noted where each begins.
 */
export class EpochOrder {
  readonly #exampleCount: number;
  readonly #chunkExamples: number;
  /** In the order in which the epoch takes them. */
  readonly #chunks: Uint32Array;
  /** Where each window begins, in the order of examples; and their number at the end. */
  readonly #starts: readonly number[];
  /** What draws each window, as far as that is known. */
  readonly #generators: RandomGenerator[];
  /** Shuffled, the one that was asked for last at the end. */
  readonly #windows = new Map<number, Uint32Array>();

  constructor(of: {
    readonly exampleCount: number;
    readonly chunkExamples: number;
    readonly seed: number;
    readonly epoch: number;
  }) {
    const { exampleCount, chunkExamples, seed, epoch } = of;
    this.#exampleCount = exampleCount;
    this.#chunkExamples = Math.min(chunkExamples, exampleCount);
    const generator = xoroshiro128plus(
      (Math.imul(seed, 0x9e37_79b1) ^ Math.imul(epoch + 1, 0x85eb_ca6b)) | 0,
    );
    const chunkCount = Math.ceil(exampleCount / this.#chunkExamples);
    this.#chunks = shuffled(
      Uint32Array.from({ length: chunkCount }, (_, i) => i),
      generator,
    );
    this.#generators = [generator];
    const starts = [0];
    for (let first = 0; first < chunkCount; first += windowChunks) {
      const chunks = this.#chunks.subarray(first, first + windowChunks);
      starts.push(chunks.reduce((end, chunk) => end + this.#countOf(chunk), starts.at(-1)!));
    }
    this.#starts = starts;
  }

  /** The examples at these places of the order; not to be changed. */
  slice({ start, end }: ElementRange): Uint32Array {
    const first = this.#windowAt(start);
    const only = this.#window(first);
    const from = this.#starts[first]!;
    if (end <= from + only.length) return only.subarray(start - from, end - from);
    const examples = new Uint32Array(end - start);
    for (let index = first; this.#starts[index]! < end; index++) {
      const at = this.#starts[index]! - start;
      const part = this.#window(index).subarray(Math.max(0, -at), examples.length - at);
      examples.set(part, Math.max(0, at));
    }
    return examples;
  }

  #windowAt(place: number): number {
    // All windows but that of the last chunk, which may be short, are of one length; so this is right, or one too far left.
    const guess = Math.floor(place / (windowChunks * this.#chunkExamples));
    return place < this.#starts[guess + 1]! ? guess : guess + 1;
  }

  #window(index: number): Uint32Array {
    const known = this.#windows.get(index);
    this.#windows.delete(index);
    const window = known ?? this.#shuffle(index);
    this.#windows.set(index, window);
    if (this.#windows.size > windowsKept) this.#windows.delete(this.#windows.keys().next().value!);
    return window;
  }

  #shuffle(index: number): Uint32Array {
    const generators = this.#generators;
    for (let next = generators.length; next <= index; next++) {
      const generator = generators[next - 1]!.clone();
      passOver(this.#starts[next]! - this.#starts[next - 1]!, generator);
      generators.push(generator);
    }
    const window = new Uint32Array(this.#starts[index + 1]! - this.#starts[index]!);
    let end = 0;
    for (const chunk of this.#chunks.subarray(index * windowChunks, (index + 1) * windowChunks)) {
      const first = chunk * this.#chunkExamples;
      for (let i = 0; i < this.#countOf(chunk); i++) window[end++] = first + i;
    }
    const generator = generators[index]!.clone();
    shuffled(window, generator);
    if (generators.length === index + 1) generators.push(generator); // where the next one begins
    return window;
  }

  #countOf(chunk: number): number {
    return Math.min(this.#chunkExamples, this.#exampleCount - chunk * this.#chunkExamples);
  }
}

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

/**
 * Takes from the generator what `shuffled` takes for so many elements. For a number below `count` it draws 32 bits, and anew
 * where they lie beyond the last whole multiple of `count`: once in 2^32 / count times.
 */
function passOver(elementCount: number, generator: RandomGenerator): void {
  const sure = 2 ** 31 - elementCount;
  for (let count = elementCount; count > 1; count--) {
    let drawn = generator.next(); // from -2^31
    while (drawn >= sure && drawn + 2 ** 31 >= Math.floor(2 ** 32 / count) * count) drawn = generator.next();
  }
}
