import { expect, test } from "vitest";
import { encodeChunk } from "../../../agent/data/chunk-format.ts";
import { ChunkedSet } from "../../../agent/data/chunked-dataset.ts";
import type { ExampleShape } from "../../../protocol/data-schema.ts";
import { RingfoldError } from "../../../protocol/errors.ts";

const shape: ExampleShape = { inputShape: [1], target: { kind: "class", classCount: 10 } };
const signal = new AbortController().signal;

/** Ten examples in chunks of four, whose input is their number; `reads` counts. */
function tenExamples(damage: ReadonlyMap<string, Uint8Array> = new Map()) {
  const reads: string[] = [];
  const chunk = (first: number, count: number) => {
    const numbers = Float32Array.from({ length: count }, (_, i) => first + i);
    return encodeChunk(shape, { count, inputs: numbers, targets: numbers });
  };
  const chunks = new Map([["a", chunk(0, 4)], ["b", chunk(4, 4)], ["c", chunk(8, 2)], ...damage]);
  const read = async (digest: string) => {
    reads.push(digest);
    const bytes = chunks.get(digest);
    if (!bytes) throw new RingfoldError("ARTEFACT_MISSING", "gone");
    return bytes;
  };
  return { set: new ChunkedSet(shape, 4, { count: 10, chunks: ["a", "b", "c"] }, { read }), reads };
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

test("what is wrong with a chunk is told by its code", async () => {
  const label = encodeChunk(shape, {
    count: 4,
    inputs: new Float32Array(4),
    targets: new Float32Array(4).fill(12),
  });
  const short = encodeChunk(shape, { count: 1, inputs: new Float32Array(1), targets: new Float32Array(1) });
  const { set } = tenExamples(
    new Map([
      ["a", label],
      ["b", short],
      ["c", new Uint8Array(9)],
    ]),
  );
  await expect(set.load([0], signal)).rejects.toMatchObject({
    code: "DATA_INVALID",
    message: expect.stringMatching(/target is 12/),
  });
  await expect(set.load([4], signal)).rejects.toMatchObject({
    code: "DATA_INVALID",
    message: expect.stringMatching(/holds 1 examples/),
  });
  await expect(set.load([8], signal)).rejects.toMatchObject({ code: "ARTEFACT_CORRUPT" });
});
