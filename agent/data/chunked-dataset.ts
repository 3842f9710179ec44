import assert from "node:assert";
import { decode } from "../../protocol/codec.ts";
import { type ExampleShape, targetLength } from "../../protocol/data-schema.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import type { DataSpec } from "../../protocol/job-spec.ts";
import { limits } from "../../protocol/limits.ts";
import { datasetManifestSchema, type SplitContent } from "../../protocol/messages/dataset.ts";
import { type Chunk, decodeChunk } from "./chunk-format.ts";
import type { Dataset, ExampleSet } from "./dataset.ts";

/** Where the chunks of a data set come from. */
export interface ChunkSource {
  /**
   * A chunk, or the manifest itself: from this machine, else from a peer, its digest checked.
   * @throws RingfoldError ARTEFACT_MISSING; the reason of `signal`
   */
  read(digest: string, signal: AbortSignal): Promise<Uint8Array>;
  /** Sees to it that a chunk is on this machine's disk, whole and true. @throws as `read` */
  fetch(digest: string, signal: AbortSignal): Promise<void>;
}

/** Chunks that are on their way from peers at the same time. */
const fetchesMax = 4;

/**
 * Opens a registered data set: brings every chunk that the job may need to this machine's disk, so that no step waits for
 * a peer, and holds a few of them in memory.
 * @param onProgress bytes are counted as chunks, which are alike but for the last
 * @throws RingfoldError ARTEFACT_MISSING when no peer has a chunk; DATA_INVALID
 */
export async function openChunkedDataset(
  spec: Extract<DataSpec, { source: "dataset" }>,
  source: ChunkSource,
  onProgress: (share: number) => void,
  signal: AbortSignal,
): Promise<Dataset> {
  assert(spec.digest, "the coordinator names the digest");
  const manifest = decode(
    await source.read(spec.digest, signal),
    datasetManifestSchema,
    limits.datasetManifestBytes,
  );
  const { shape, chunkExamples } = manifest;
  const train = cut(manifest.train, chunkExamples, spec.trainExamples);
  const test = cut(manifest.test, chunkExamples, spec.testExamples);
  await fetchAll([...train.chunks, ...test.chunks], source, onProgress, signal);
  const set = (split: SplitContent) => new ChunkedSet(shape, chunkExamples, split, source);
  return { train: set(train), test: set(test), shape, digest: spec.digest };
}

/** The first so many examples, which are any: they lie in the order of a hash. */
function cut(split: SplitContent, chunkExamples: number, count = split.count): SplitContent {
  const taken = Math.min(count, split.count);
  return { ...split, count: taken, chunks: split.chunks.slice(0, Math.ceil(taken / chunkExamples)) };
}

async function fetchAll(
  digests: readonly string[],
  source: ChunkSource,
  onProgress: (share: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const failed = new AbortController();
  const both = AbortSignal.any([signal, failed.signal]);
  let next = 0;
  let done = 0;
  const work = async (): Promise<void> => {
    for (let i = next++; i < digests.length; i = next++) {
      await source.fetch(digests[i]!, both);
      onProgress(++done / digests.length);
    }
  };
  try {
    await Promise.all(Array.from({ length: fetchesMax }, work));
  } catch (cause) {
    failed.abort(cause);
    throw cause;
  }
}

/** Examples in chunks, of which the least recently used leave memory. */
export class ChunkedSet implements ExampleSet {
  readonly count: number;
  readonly chunkExamples: number;
  readonly #shape: ExampleShape;
  readonly #digests: readonly string[];
  readonly #source: Pick<ChunkSource, "read">;
  /** In the order of their last use. */
  readonly #loaded = new Map<number, { readonly chunk: Chunk; readonly bytes: number }>();
  #loadedBytes = 0;

  constructor(
    shape: ExampleShape,
    chunkExamples: number,
    split: SplitContent,
    source: Pick<ChunkSource, "read">,
  ) {
    this.count = split.count;
    this.chunkExamples = chunkExamples;
    this.#shape = shape;
    this.#digests = split.chunks;
    this.#source = source;
  }

  async load(indices: ArrayLike<number>, signal: AbortSignal): Promise<void> {
    const wanted = new Set<number>();
    for (let i = 0; i < indices.length; i++) wanted.add(Math.floor(indices[i]! / this.chunkExamples));
    for (const index of wanted) {
      const known = this.#loaded.get(index);
      this.#loaded.delete(index);
      if (known) this.#loaded.set(index, known);
      else await this.#load(index, signal);
    }
    for (const [index, { bytes }] of this.#loaded) {
      if (this.#loadedBytes <= limits.dataMemoryBytes || wanted.has(index)) break;
      this.#loaded.delete(index);
      this.#loadedBytes -= bytes;
    }
  }

  async #load(index: number, signal: AbortSignal): Promise<void> {
    const bytes = await this.#source.read(this.#digests[index]!, signal);
    const chunk = decodeChunk(this.#shape, bytes);
    const due = Math.min(this.chunkExamples, this.count - index * this.chunkExamples);
    if (chunk.count < due) {
      throw new RingfoldError(
        "DATA_INVALID",
        `chunk ${index} holds ${chunk.count} examples, and ${due} are due`,
        {},
      );
    }
    this.#loaded.set(index, { chunk, bytes: bytes.byteLength });
    this.#loadedBytes += bytes.byteLength;
  }

  gather(indices: ArrayLike<number>, inputs: Float32Array, targets: Float32Array): void {
    const rowLength = this.#shape.inputShape.reduce((product, dimension) => product * dimension, 1);
    const length = targetLength(this.#shape.target);
    for (let i = 0; i < indices.length; i++) {
      const example = indices[i]!;
      const index = Math.floor(example / this.chunkExamples);
      const loaded = this.#loaded.get(index);
      assert(loaded, "load() comes before gather()");
      loaded.chunk.write(example - index * this.chunkExamples, inputs, i * rowLength, targets, i * length);
    }
  }
}
