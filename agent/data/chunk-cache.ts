import type { Chunk } from "./chunk-format.ts";

/** Chunks in memory, up to a bound; the least recently used leave first. */
export class ChunkCache {
  readonly #bytesMax: number;
  /** By digest, in the order of their last use. */
  readonly #chunks = new Map<string, { readonly chunk: Chunk; readonly bytes: number }>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Of all chunks here, as they are encoded. */
  get bytes(): number {
    return this.#bytes;
  }

  get(digest: string): Chunk | undefined {
    const known = this.#chunks.get(digest);
    if (!known) return undefined;
    this.#chunks.delete(digest);
    this.#chunks.set(digest, known);
    return known.chunk;
  }

  /** One that alone is beyond the bound is not kept. */
  put(digest: string, chunk: Chunk, bytes: number): void {
    if (bytes > this.#bytesMax || this.#chunks.has(digest)) return;
    this.#chunks.set(digest, { chunk, bytes });
    this.#bytes += bytes;
    for (const [oldest, { bytes: freed }] of this.#chunks) {
      if (this.#bytes <= this.#bytesMax) break;
      this.#chunks.delete(oldest);
      this.#bytes -= freed;
    }
  }
}
