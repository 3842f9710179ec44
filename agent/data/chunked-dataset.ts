import assert from "node:assert";
import { decode } from "../../protocol/codec.ts";
import { type ExampleShape, targetLength } from "../../protocol/data-schema.ts";
import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import type { DataSpec } from "../../protocol/job-spec.ts";
import { limits } from "../../protocol/limits.ts";
import { datasetManifestSchema, type SplitContent } from "../../protocol/messages/dataset.ts";
import { ChunkCache } from "./chunk-cache.ts";
import { ChunkFetcher, type ChunkSource } from "./chunk-fetcher.ts";
import { type Chunk, decodeChunk } from "./chunk-format.ts";
import type { ChunksOfSet, Dataset, ExampleSet } from "./dataset.ts";

/**
 * Opens a registered data set. Nothing but its manifest has to be on this machine: chunks come from peers when they are
 * expected or needed, stay on the disk, and a bounded part of them in memory.
 * @param options.memoryBytes of chunks as they are encoded, of both splits together
 * @param signal ends what is under way, now and later
 * @throws RingfoldError ARTEFACT_MISSING when no peer has the manifest
 */
export async function openChunkedDataset(
  spec: Extract<DataSpec, { source: "dataset" }>,
  { source, memoryBytes = limits.dataMemoryBytes }: { source: ChunkSource; memoryBytes?: number },
  signal: AbortSignal,
): Promise<Dataset> {
  assert(spec.digest, "the coordinator names the digest");
  const manifest = decode(
    await source.read(spec.digest, signal),
    datasetManifestSchema,
    limits.datasetManifestBytes,
  );
  const { shape, chunkExamples } = manifest;
  const shared = {
    ...{ shape, chunkExamples, source },
    fetcher: new ChunkFetcher(source, signal),
    cache: new ChunkCache(memoryBytes),
  };
  const train = cut(manifest.train, chunkExamples, spec.trainExamples);
  const test = cut(manifest.test, chunkExamples, spec.testExamples);
  return {
    train: new ChunkedSet(train, { ...shared, needed: "soon" }),
    test: new ChunkedSet(test, { ...shared, needed: "later" }),
    ...{ shape, digest: spec.digest },
    ...(manifest.train.classCounts ? { classCounts: manifest.train.classCounts } : {}),
  };
}

/** The first so many examples, which are any: they lie in the order of a hash. */
function cut(split: SplitContent, chunkExamples: number, count = split.count): SplitContent {
  const taken = Math.min(count, split.count);
  return { ...split, count: taken, chunks: split.chunks.slice(0, Math.ceil(taken / chunkExamples)) };
}

/** Examples in chunks, which come when they are needed, or before if they are expected. */
export class ChunkedSet implements ExampleSet {
  readonly count: number;
  readonly chunkExamples: number;
  readonly chunks: ChunksOfSet;
  readonly #of: SharedParts;
  readonly #digests: readonly string[];
  /** What the last `load` was for: not at the mercy of the cache. */
  readonly #loaded = new Map<number, Chunk>();

  constructor(split: SplitContent, of: SharedParts & { readonly needed: "soon" | "later" }) {
    const { fetcher, needed } = of;
    this.count = split.count;
    this.chunkExamples = of.chunkExamples;
    this.#of = of;
    this.#digests = split.chunks;
    this.chunks = {
      has: (index) => fetcher.has(this.#digests[index]!),
      expect: (indices) =>
        fetcher.expect(
          needed,
          indices.map((index) => this.#digests[index]!),
        ),
      bring: (index, signal) => fetcher.bring(this.#digests[index]!, signal),
    };
  }

  async load(indices: ArrayLike<number>, signal: AbortSignal): Promise<void> {
    const wanted = new Set<number>();
    for (let i = 0; i < indices.length; i++) wanted.add(Math.floor(indices[i]! / this.chunkExamples));
    for (const index of this.#loaded.keys()) if (!wanted.has(index)) this.#loaded.delete(index);
    for (const index of wanted) {
      if (!this.#loaded.has(index)) this.#loaded.set(index, await this.#chunk(index, signal));
    }
  }

  async #chunk(index: number, signal: AbortSignal): Promise<Chunk> {
    const { cache, fetcher, source } = this.#of;
    const digest = this.#digests[index]!;
    const known = cache.get(digest);
    if (known) return known;
    await fetcher.bring(digest, signal);
    const bytes = await source.read(digest, signal);
    const chunk = this.#decode(index, bytes);
    cache.put(digest, chunk, bytes.byteLength);
    return chunk;
  }

  /** The digest is right, so what is wrong with the bytes is so on every machine. */
  #decode(index: number, bytes: Uint8Array): Chunk {
    try {
      const chunk = decodeChunk(this.#of.shape, bytes);
      const due = Math.min(this.chunkExamples, this.count - index * this.chunkExamples);
      if (chunk.count >= due) return chunk;
      throw new RingfoldError("DATA_INVALID", `it holds ${chunk.count} examples, and ${due} are due`);
    } catch (cause) {
      const { message, data } = toRingfoldError(cause);
      const name = `chunk ${index} (${this.#digests[index]!.slice(0, 12)})`;
      throw new RingfoldError("DATA_INVALID", `${name}: ${message}`, { ...data, chunk: index }, { cause });
    }
  }

  gather(indices: ArrayLike<number>, inputs: Float32Array, targets: Float32Array): void {
    const { shape } = this.#of;
    const rowLength = shape.inputShape.reduce((product, dimension) => product * dimension, 1);
    const length = targetLength(shape.target);
    for (let i = 0; i < indices.length; i++) {
      const example = indices[i]!;
      const index = Math.floor(example / this.chunkExamples);
      const chunk = this.#loaded.get(index);
      assert(chunk, "load() comes before gather()");
      chunk.write(example - index * this.chunkExamples, inputs, i * rowLength, targets, i * length);
    }
  }
}

/** What both splits of a data set work with. */
interface SharedParts {
  readonly shape: ExampleShape;
  readonly chunkExamples: number;
  readonly source: Pick<ChunkSource, "read">;
  readonly fetcher: ChunkFetcher;
  readonly cache: ChunkCache;
}
