import fc from "fast-check";
import { expect, test } from "vitest";
import { decodeChunk, encodeChunk } from "../../agent/data/chunk-format.ts";
import type { ExampleShape } from "../../protocol/data-schema.ts";
import { RingfoldError } from "../../protocol/errors.ts";

const f32 = fc.float({ noNaN: true, noDefaultInfinity: true });
const smallWhole = fc.integer({ min: -300, max: 300 });
const pixel = fc.nat(255).map((value) => Math.fround(value / 255));
/** Columns of one kind of number each, as a table, an image or a text has them. */
const column = fc.constantFrom(
  f32,
  smallWhole,
  fc.nat(255),
  fc.nat(65_535),
  pixel,
  fc.constantFrom(0, -0, 1),
);

const examples = fc
  .tuple(
    fc.integer({ min: 1, max: 20 }),
    fc.array(fc.tuple(column, fc.integer({ min: 1, max: 5 })), { minLength: 1, maxLength: 4 }),
  )
  .chain(([count, columns]) =>
    fc.record({
      count: fc.constant(count),
      lengths: fc.constant(columns.map(([, length]) => length)),
      values: fc.tuple(
        ...columns.map(([number, length]) =>
          fc.array(number, { minLength: count * length, maxLength: count * length }),
        ),
      ),
      labels: fc.array(fc.integer({ min: -1, max: 4 }), { minLength: count, maxLength: count }),
    }),
  );

const shapeOf = (lengths: readonly number[]): ExampleShape => ({
  inputShape: [lengths.reduce((sum, length) => sum + length, 0)],
  features: lengths.map((length, i) => ({ name: `f${i}`, shape: [length], kind: "number" })),
  target: { kind: "class", classCount: 5 },
});

function rows({
  count,
  lengths,
  values,
}: {
  count: number;
  lengths: number[];
  values: number[][];
}): Float32Array {
  const row: number[] = [];
  for (let example = 0; example < count; example++)
    for (const [c, length] of lengths.entries())
      row.push(...values[c]!.slice(example * length, (example + 1) * length));
  return Float32Array.from(row);
}

test("what was written is read again, to the bit, from bytes at any place of a buffer", () => {
  fc.assert(
    fc.property(examples, fc.nat(7), ({ count, lengths, values, labels }, offset) => {
      const shape = shapeOf(lengths);
      const inputs = rows({ count, lengths, values });
      const bytes = encodeChunk(shape, { count, inputs, targets: Float32Array.from(labels) });
      const within = Buffer.concat([Buffer.alloc(offset), bytes]).subarray(offset);
      const chunk = decodeChunk(shape, within);
      within.fill(255); // the chunk keeps nothing of what it was read from
      const read = new Float32Array(inputs.length);
      const targets = new Float32Array(count);
      const width = shape.inputShape[0]!;
      for (let i = 0; i < count; i++) chunk.write(i, read, i * width, targets, i);
      expect(new Uint8Array(read.buffer)).toEqual(new Uint8Array(inputs.buffer));
      expect([...targets]).toEqual(labels);
    }),
  );
});

const chunkOf = (shape: ExampleShape, inputs: number[], targets: number[]) =>
  encodeChunk(shape, {
    count: targets.length,
    inputs: Float32Array.from(inputs),
    targets: Float32Array.from(targets),
  });

test("damaged bytes are named as such, or are another chunk of the same shape, and never anything else", () => {
  const shape = shapeOf([2, 3]);
  const whole = chunkOf(shape, [1, 2, 3, 4, 5, 0.1, 0.2, 0.3, 0.4, 0.5], [0, 4]);
  const damage = fc.oneof(
    fc.nat(whole.length - 1).map((length) => whole.slice(0, length)),
    fc.uint8Array({ minLength: 1, maxLength: 40 }).map((tail) => Uint8Array.from([...whole, ...tail])),
    fc.tuple(fc.nat(whole.length - 1), fc.nat(255)).map(([at, byte]) => whole.with(at, byte)),
    fc.uint8Array({ maxLength: 200 }),
  );
  fc.assert(
    fc.property(damage, (bytes) => {
      try {
        expect(decodeChunk(shape, bytes).count).toBe(2);
      } catch (error) {
        expect(error).toBeInstanceOf(RingfoldError);
        expect(["ARTEFACT_CORRUPT", "DATA_INVALID"]).toContain((error as RingfoldError).code);
      }
    }),
    { numRuns: 400 },
  );
});

test("a chunk of another data set is refused", () => {
  const bytes = chunkOf(shapeOf([2]), [1, 2], [0]);
  expect(() => decodeChunk(shapeOf([1, 1]), bytes)).toThrow(/columns are not those/);
});

test.each([
  [
    "a label out of range",
    [0.5, 2],
    [5],
    /example 0 of a chunk: the target is 5, not a whole number from -1 to 4/,
  ],
  ["a NaN", [0.5, Number.NaN], [0], /example 0 of a chunk: f0 is NaN, not a finite number/],
])("%s is named", (_what, inputs, targets, message) => {
  const shape = shapeOf([2]);
  const bytes = chunkOf(shape, inputs, targets);
  expect(() => decodeChunk(shape, bytes)).toThrow(message);
});

test("a category out of range is named", () => {
  const shape: ExampleShape = {
    inputShape: [1],
    features: [{ name: "city", shape: [], kind: "category", cardinality: 3 }],
    target: { kind: "number" },
  };
  expect(() => decodeChunk(shape, chunkOf(shape, [3], [0.5]))).toThrow(
    /city is 3, not a whole number from 0 to 2/,
  );
});

test("pixels take a byte each", () => {
  const shape: ExampleShape = { inputShape: [8, 8, 1], target: { kind: "class", classCount: 5 } };
  const pixels = Array.from({ length: 6_400 }, (_, i) => (i % 256) / 255);
  const bytes = chunkOf(shape, pixels, new Array<number>(100).fill(1));
  expect(bytes.length).toBeLessThan(6_400 + 100 + 128);
});
