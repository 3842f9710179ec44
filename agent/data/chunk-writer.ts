import { type ExampleShape, targetLength } from "../../protocol/data-schema.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import type { SplitContent } from "../../protocol/messages/dataset.ts";
import { encodeChunk } from "./chunk-format.ts";

/** As f32; encoded they are smaller. Large enough that a chunk is worth a request, small enough to shuffle by chunks. */
const chunkBytes = 2 * 1024 * 1024;
const chunkExamplesMax = 65_536;

/** Examples of each chunk but the last: a function of the shape, so that a data set is the same wherever it is made. */
export function chunkExamplesOf({ inputShape, target }: ExampleShape): number {
  const numbers = inputShape.reduce((product, dimension) => product * dimension, 1) + targetLength(target);
  return Math.min(chunkExamplesMax, Math.max(1, Math.floor(chunkBytes / (4 * numbers))));
}

/** Where chunks go. @returns the SHA-256 of the bytes, once they are durable */
export type ChunkSink = (bytes: Uint8Array) => Promise<string>;

/** Collects the examples of one split into chunks. */
export class ChunkWriter {
  readonly #shape: ExampleShape;
  readonly #put: ChunkSink;
  readonly #chunkExamples: number;
  readonly #rowLength: number;
  readonly #targetLength: number;
  readonly #inputs: Float32Array;
  readonly #targets: Float32Array;
  readonly #chunks: string[] = [];
  readonly #classCounts: number[] | undefined;
  #pending = 0;
  #count = 0;
  #bytes = 0;

  constructor(shape: ExampleShape, put: ChunkSink) {
    this.#shape = shape;
    this.#put = put;
    this.#chunkExamples = chunkExamplesOf(shape);
    this.#rowLength = shape.inputShape.reduce((product, dimension) => product * dimension, 1);
    this.#targetLength = targetLength(shape.target);
    this.#inputs = new Float32Array(this.#chunkExamples * this.#rowLength);
    this.#targets = new Float32Array(this.#chunkExamples * this.#targetLength);
    const { target } = shape;
    if (target.kind === "class") this.#classCounts = new Array<number>(target.classCount).fill(0);
    else if (target.kind === "binary") this.#classCounts = [0, 0];
  }

  /** Encoded, of all chunks. */
  get bytes(): number {
    return this.#bytes;
  }

  /**
   * @param write writes one example into the row and its target, both zeros before
   * @throws RingfoldError DATA_INVALID when a number is not finite as f32; whatever `write` or the sink throws
   */
  async add(write: (row: Float32Array, target: Float32Array) => void): Promise<void> {
    const at = this.#pending;
    const row = this.#inputs.subarray(at * this.#rowLength, (at + 1) * this.#rowLength);
    const target = this.#targets.subarray(at * this.#targetLength, (at + 1) * this.#targetLength);
    write(row, target);
    const stranger = row.findIndex((value) => !Number.isFinite(value));
    if (stranger >= 0 || !target.every(Number.isFinite)) {
      const which = stranger >= 0 ? `input ${stranger}` : "the target";
      throw new RingfoldError(
        "DATA_INVALID",
        `example ${this.#count}: ${which} is no finite 32-bit number`,
        {},
      );
    }
    if (this.#classCounts && target[0]! >= 0) this.#classCounts[target[0]!]! += 1;
    this.#pending++;
    this.#count++;
    if (this.#pending === this.#chunkExamples) await this.#flush();
  }

  async finish(): Promise<SplitContent> {
    if (this.#pending > 0) await this.#flush();
    const classCounts = this.#classCounts ? { classCounts: this.#classCounts } : {};
    return { count: this.#count, ...classCounts, chunks: this.#chunks };
  }

  async #flush(): Promise<void> {
    const count = this.#pending;
    const bytes = encodeChunk(this.#shape, {
      count,
      inputs: this.#inputs.subarray(0, count * this.#rowLength),
      targets: this.#targets.subarray(0, count * this.#targetLength),
    });
    this.#chunks.push(await this.#put(bytes));
    this.#bytes += bytes.byteLength;
    this.#pending = 0;
    this.#inputs.fill(0);
    this.#targets.fill(0);
  }
}
