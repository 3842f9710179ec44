import { expect, test } from "vitest";
import { ChunkCache } from "../../../agent/data/chunk-cache.ts";
import { ChunkFetcher } from "../../../agent/data/chunk-fetcher.ts";
import { encodeChunk } from "../../../agent/data/chunk-format.ts";
import { ChunkedSet } from "../../../agent/data/chunked-dataset.ts";
import { BatchBuffer } from "../../../agent/data/dataset.ts";
import type { ExampleShape } from "../../../protocol/data-schema.ts";
import { RingfoldError } from "../../../protocol/errors.ts";

const shape: ExampleShape = { inputShape: [1], target: { kind: "class", classCount: 10 } };
const signal = new AbortController().signal;

const chunk = (first: number, count: number) => {
  const numbers = Float32Array.from({ length: count }, (_, i) => first + i);
  return encodeChunk(shape, { count, inputs: numbers, targets: numbers });
};

/** Ten examples in chunks of four, whose input is their number; `reads` counts. */
function tenExamples({
  damage = [],
  memoryBytes = 1_000,
}: {
  readonly damage?: readonly [string, Uint8Array][];
  readonly memoryBytes?: number;
} = {}) {
  const reads: string[] = [];
  const cache = new ChunkCache(memoryBytes);
  const chunks = new Map([["a", chunk(0, 4)], ["b", chunk(4, 4)], ["c", chunk(8, 2)], ...damage]);
  const source = {
    has: () => true,
    fetch: async () => {},
    read: async (digest: string) => {
      reads.push(digest);
      const bytes = chunks.get(digest);
      if (!bytes) throw new RingfoldError("ARTEFACT_MISSING", "gone");
      return bytes;
    },
  };
  const set = new ChunkedSet(
    { count: 10, chunks: ["a", "b", "c"] },
    {
      ...{ shape, chunkExamples: 4, source, cache },
      ...{ needed: "soon", fetcher: new ChunkFetcher(source, signal) },
    },
  );
  return { set, reads, cache };
}

test("examples come from the chunks that hold them, each read once", async () => {
  const { set, reads } = tenExamples();
  const inputs = new Float32Array(4);
  const targets = new Float32Array(4);
  for (const indices of [
    [9, 0, 3],
    [1, 8, 2, 0],
  ]) {
    await set.load(indices, signal);
    set.gather(indices, inputs, targets);
    expect([...inputs.subarray(0, indices.length)]).toEqual(indices);
    expect([...targets.subarray(0, indices.length)]).toEqual(indices);
  }
  expect(reads).toEqual(["c", "a"]);
});

test.each([0, chunk(0, 4).byteLength])(
  "a batch over all chunks is the same with memory for %i bytes of them",
  async (memoryBytes) => {
    const { set, cache, reads } = tenExamples({ memoryBytes });
    const batch = new BatchBuffer(shape, 10);
    for (const indices of [
      [0, 2, 5, 9],
      [1, 3, 4, 8],
    ]) {
      const { inputs } = await batch.gather(set, Uint32Array.from(indices), signal);
      expect([...inputs.subarray(0, 4)]).toEqual(indices);
      expect(cache.bytes).toBeLessThanOrEqual(memoryBytes);
    }
    expect(reads).toEqual(["a", "b", "c", "a", "b", "c"]);
  },
);

test("the least recently used chunk leaves memory", async () => {
  const { set, reads } = tenExamples({ memoryBytes: 2 * chunk(0, 4).byteLength });
  for (const index of [0, 4, 0, 8, 0, 4]) await set.load([index], signal);
  expect(reads).toEqual(["a", "b", "c", "b"]);
});

test("what is wrong with a chunk is told by its code and its number", async () => {
  const label = encodeChunk(shape, {
    count: 4,
    inputs: new Float32Array(4),
    targets: new Float32Array(4).fill(12),
  });
  const { set } = tenExamples({
    damage: [
      ["a", label],
      ["b", chunk(0, 1)],
      ["c", new Uint8Array(9)],
    ],
  });
  await expect(set.load([0], signal)).rejects.toMatchObject({
    code: "DATA_INVALID",
    message: expect.stringMatching(/chunk 0 .*target is 12/),
  });
  await expect(set.load([4], signal)).rejects.toMatchObject({
    code: "DATA_INVALID",
    message: expect.stringMatching(/chunk 1 .*holds 1 examples/),
  });
  await expect(set.load([8], signal)).rejects.toMatchObject({
    code: "DATA_INVALID",
    message: expect.stringMatching(/chunk 2 .*no chunk of the data set/),
  });
});
