import fc from "fast-check";
import { expect, test } from "vitest";
import { RingfoldError } from "../../protocol/errors.ts";
import { decodeSafetensors, encodeSafetensors, type NamedTensor } from "../../protocol/safetensors.ts";

const tensorsArbitrary: fc.Arbitrary<NamedTensor[]> = fc
  .uniqueArray(fc.oneof(fc.string({ minLength: 1 }), fc.nat(99).map(String)), { maxLength: 6 })
  .filter((names) => !names.includes("__metadata__") && !names.includes("__proto__"))
  .chain((names) =>
    fc.tuple(
      ...names.map((name) =>
        fc.array(fc.nat(4), { maxLength: 3 }).chain((shape) => {
          const length = shape.reduce((product, dimension) => product * dimension, 1);
          return fc
            .float32Array({ minLength: length, maxLength: length })
            .map((data): NamedTensor => ({ name, shape, data }));
        }),
      ),
    ),
  );

const metadataArbitrary = fc.dictionary(
  fc.string().filter((key) => key !== "__proto__"),
  fc.string(),
  { noNullPrototype: true },
);

const bitsByName = (tensors: readonly NamedTensor[]) =>
  new Map(
    tensors.map(({ name, shape, data }) => [
      name,
      { shape, bits: Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("hex") },
    ]),
  );

/** Decodes, or returns the code of the refusal; anything else is a defect. */
function read(bytes: Uint8Array): ReturnType<typeof decodeSafetensors> | string {
  try {
    return decodeSafetensors(bytes);
  } catch (error) {
    if (error instanceof RingfoldError) return error.code;
    throw error;
  }
}

const file = (header: string, data = 0): Uint8Array => {
  const json = Buffer.from(header);
  const bytes = Buffer.alloc(8 + json.length + data);
  bytes.writeBigUInt64LE(BigInt(json.length));
  json.copy(bytes, 8);
  return bytes;
};
const entry = (changes: object = {}) =>
  JSON.stringify({ w: { dtype: "F32", shape: [2], data_offsets: [0, 8], ...changes } });

test("tensors and metadata come back to the bit", () => {
  fc.assert(
    fc.property(tensorsArbitrary, metadataArbitrary, (tensors, metadata) => {
      const decoded = decodeSafetensors(encodeSafetensors(tensors, metadata));
      expect(decoded.metadata).toEqual(metadata);
      expect(bitsByName(decoded.tensors)).toEqual(bitsByName(tensors));
    }),
  );
});

test("tensors that hold anything come back in order, whatever their names", () => {
  fc.assert(
    fc.property(tensorsArbitrary, (tensors) => {
      const namesOf = (list: readonly NamedTensor[]) =>
        list.filter(({ data }) => data.length > 0).map(({ name }) => name);
      expect(namesOf(decodeSafetensors(encodeSafetensors(tensors)).tensors)).toEqual(namesOf(tensors));
    }),
  );
});

test("bytes may lie at any offset of a larger buffer, and are copied out", () => {
  const bytes = encodeSafetensors([{ name: "w", shape: [3], data: Float32Array.of(1, -2, 3.5) }]);
  for (const offset of [0, 1, 3, 4, 7]) {
    const larger = Buffer.alloc(bytes.length + offset + 5, 0xee);
    larger.set(bytes, offset);
    const { tensors } = decodeSafetensors(larger.subarray(offset, offset + bytes.length));
    larger.fill(0);
    expect(tensors[0]!.data).toEqual(Float32Array.of(1, -2, 3.5));
  }
});

test("views of one larger array are written as what they show", () => {
  const all = Float32Array.of(1, 2, 3, 4);
  const { tensors } = decodeSafetensors(
    encodeSafetensors([{ name: "middle", shape: [2], data: all.subarray(1, 3) }]),
  );
  expect(tensors[0]!.data).toEqual(Float32Array.of(2, 3));
});

test("the data starts at a multiple of eight", () => {
  for (let length = 1; length < 20; length++) {
    const bytes = encodeSafetensors([{ name: "n".repeat(length), shape: [1], data: Float32Array.of(1) }]);
    expect(new DataView(bytes.buffer).getBigUint64(0, true) % 8n).toBe(0n);
  }
});

test("a file of another writer, with its entries in another order, is read in the order of its data", () => {
  const header = {
    b: { dtype: "F32", shape: [1], data_offsets: [4, 8] },
    a: { dtype: "F32", shape: [1], data_offsets: [0, 4] },
  };
  const decoded = decodeSafetensors(file(JSON.stringify(header), 8));
  expect(decoded.tensors.map(({ name }) => name)).toEqual(["a", "b"]);
});

test.each([
  ["nothing", new Uint8Array(0)],
  ["seven bytes", new Uint8Array(7)],
  ["a header of 2^64-1 bytes", new Uint8Array(8).fill(0xff)],
  ["a header longer than the file", Buffer.concat([file("{}").subarray(0, 9)])],
  ["no JSON", file("{")],
  ["no UTF-8", Buffer.from([1, 0, 0, 0, 0, 0, 0, 0, 0xff])],
  ["a list", file("[]")],
  ["null", file("null")],
  ["another element type", file(entry({ dtype: "F16" }), 8)],
  ["a shape that does not fit its offsets", file(entry({ shape: [3] }), 8)],
  ["a negative dimension", file(entry({ shape: [-2] }), 8)],
  ["a fractional dimension", file(entry({ shape: [0.5] }), 8)],
  ["dimensions whose product overflows", file(entry({ shape: [2 ** 52, 2 ** 52, 2 ** 52] }), 8)],
  ["dimensions of product not-a-number", file(entry({ shape: [...Array(40).fill(2 ** 52), 0] }), 8)],
  ["offsets the wrong way round", file(entry({ data_offsets: [8, 0] }), 8)],
  ["offsets past the end", file(entry({ data_offsets: [8, 16] }), 8)],
  ["a tensor far larger than the file", file(entry({ shape: [2 ** 40], data_offsets: [0, 2 ** 42] }), 8)],
  ["a hole before the data", file(entry({ data_offsets: [4, 12] }), 12)],
  ["bytes left over", file(entry(), 9)],
  ["a byte too few", file(entry(), 7)],
  ["metadata that is no text", file('{"__metadata__":{"a":1}}')],
  ["a tensor under the name of a prototype", file(entry().replace('"w"', '"__proto__"'), 8)],
  [
    "two tensors over the same bytes",
    file(
      '{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
      4,
    ),
  ],
  ["deep nesting", file("[".repeat(50_000))],
])("refused as corrupt: %s", (_what, bytes) => {
  expect(read(bytes)).toBe("ARTEFACT_CORRUPT");
});

test("mutated and random files end in tensors or ARTEFACT_CORRUPT", () => {
  const valid = encodeSafetensors(
    [
      { name: "dense/kernel", shape: [2, 2], data: new Float32Array(4) },
      { name: "dense/bias", shape: [2], data: new Float32Array(2) },
    ],
    { step: "3" },
  );
  const mutated = fc.array(fc.tuple(fc.nat(valid.length - 1), fc.nat(255)), { maxLength: 4 }).map((edits) => {
    const bytes = valid.slice();
    for (const [at, byte] of edits) bytes[at] = byte;
    return bytes;
  });
  const cut = fc.nat(valid.length - 1).map((length) => valid.slice(0, length));
  fc.assert(
    fc.property(fc.oneof(mutated, cut, fc.uint8Array({ maxLength: 100 })), (bytes) => {
      const outcome = read(bytes);
      if (typeof outcome === "string") expect(outcome).toBe("ARTEFACT_CORRUPT");
    }),
    { numRuns: 1_000 },
  );
});
