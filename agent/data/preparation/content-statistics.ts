import type { ImageStatistics, TextStatistics } from "../../../protocol/messages/dataset.ts";
import { type TokenEncoder, tokenCount } from "./tokens.ts";

/**
 * What the training images hold, as they are trained on. Sums of bytes are whole numbers that IEEE double holds exactly, so the order in which images
 * come changes no bit. Cost: a pass over the pixels; memory of three pairs of numbers.
 */
export class ImageSums {
  readonly #channels: number;
  readonly #sums: Float64Array;
  readonly #squares: Float64Array;
  #pixels = 0;

  constructor(channels: number) {
    this.#channels = channels;
    this.#sums = new Float64Array(channels);
    this.#squares = new Float64Array(channels);
  }

  /** @param row bytes over 255, channels beside each other */
  add(row: Float32Array): void {
    const channels = this.#channels;
    for (let i = 0; i < row.length; i++) {
      const value = Math.round(row[i]! * 255);
      const channel = i % channels;
      this.#sums[channel]! += value;
      this.#squares[channel]! += value * value;
    }
    this.#pixels += row.length / channels;
  }

  statistics(size: { readonly height: number; readonly width: number }): ImageStatistics {
    const channels = Array.from(this.#sums, (sum, channel) => {
      const mean = sum / this.#pixels;
      const variance = Math.max(0, this.#squares[channel]! / this.#pixels - mean * mean);
      return { mean: mean / 255, sd: Math.sqrt(variance) / 255 };
    });
    return { ...size, channels };
  }
}

/** Below this each length is counted by itself; above, those that agree in their first six bits are one. */
const exactMax = 4_096;
const mantissa = 64;

/** How long the documents of a training split are, in bounded memory: up to 4,096 exact, beyond that to 1.6%. */
class Lengths {
  readonly #counts = new Map<number, number>();
  #count = 0;
  #min = Number.POSITIVE_INFINITY;
  #max = 0;

  add(length: number): void {
    const bucket = bucketOf(length);
    this.#counts.set(bucket, (this.#counts.get(bucket) ?? 0) + 1);
    this.#count++;
    this.#min = Math.min(this.#min, length);
    this.#max = Math.max(this.#max, length);
  }

  get count(): number {
    return this.#count;
  }

  summary(): TextStatistics["lengths"] {
    if (this.#count === 0) return { min: 0, median: 0, p95: 0, max: 0 };
    const sorted = [...this.#counts].sort(([a], [b]) => a - b);
    return {
      min: this.#min,
      median: this.#quantile(sorted, 0.5),
      p95: this.#quantile(sorted, 0.95),
      max: this.#max,
    };
  }

  /** The nearest rank: a length that some document has, or the least of those that are counted with it. */
  #quantile(sorted: readonly (readonly [length: number, count: number])[], share: number): number {
    const rank = Math.ceil(share * this.#count);
    let seen = 0;
    for (const [length, count] of sorted) {
      seen += count;
      if (seen >= rank) return Math.min(this.#max, Math.max(this.#min, length));
    }
    return this.#max;
  }
}

function bucketOf(length: number): number {
  if (length < exactMax) return length;
  const step = 2 ** Math.floor(Math.log2(length)) / mantissa;
  return Math.floor(length / step) * step;
}

/** What the texts of a training split come to as tokens, before they are cut to the length of an example. */
export class TextCounts {
  readonly #encoder: TokenEncoder;
  readonly #lengths = new Lengths();
  readonly #isUsed: Uint8Array;
  #tokens = 0;
  #unknown = 0;
  #cut = 0;

  constructor(encoder: TokenEncoder) {
    this.#encoder = encoder;
    this.#isUsed = new Uint8Array(tokenCount(encoder));
  }

  add(tokens: ArrayLike<number>): void {
    const isWords = this.#encoder.kind === "words";
    for (let i = 0; i < tokens.length; i++) {
      const token = tokens[i]!;
      if (isWords && token === 1) this.#unknown++;
      else this.#isUsed[token] = 1;
    }
    this.#tokens += tokens.length;
    if (tokens.length > this.#encoder.length) this.#cut++;
    this.#lengths.add(tokens.length);
  }

  /** @param isCut whether what is longer than an example is left out; in windows nothing is */
  statistics(isCut: boolean): TextStatistics {
    return {
      column: this.#encoder.column,
      documents: this.#lengths.count,
      tokens: this.#tokens,
      vocabulary: this.#isUsed.length,
      used: this.#isUsed.reduce((total, used) => total + used, 0),
      unknown: this.#unknown,
      cut: isCut ? this.#cut : 0,
      lengths: this.#lengths.summary(),
    };
  }
}
