import { z } from "zod";
import { decode, encode } from "../../protocol/codec.ts";
import { type ExampleShape, targetLength } from "../../protocol/data-schema.ts";
import { RingfoldError } from "../../protocol/errors.ts";

/**
 * A chunk of a data set: some examples, column after column, each in the smallest type that holds its numbers exactly.
 *
 *   8 bytes   "RFCHUNK1"
 *   u32       length of the header
 *   header    msgpack {count, columns: [{type, length}]}; the last column is the target
 *   columns   count x length numbers each, little-endian, each column padded to 8 bytes from the start
 */
const magic = "RFCHUNK1";
const alignment = 8;
const headerBytesMax = 1 << 20;

/** `unit8` is a byte over 255: a pixel. */
const columnTypeSchema = z.enum(["u8", "unit8", "i16", "u16", "f32"]);
type ColumnType = z.infer<typeof columnTypeSchema>;

const headerSchema = z.strictObject({
  count: z
    .number()
    .int()
    .positive()
    .max(2 ** 24),
  columns: z
    .array(z.strictObject({ type: columnTypeSchema, length: z.number().int().positive() }))
    .min(2)
    .max(2_048),
});

const arrays = { u8: Uint8Array, unit8: Uint8Array, i16: Int16Array, u16: Uint16Array, f32: Float32Array };
type ColumnArray = Uint8Array | Int16Array | Uint16Array | Float32Array;

interface Column {
  readonly type: ColumnType;
  /** Numbers of one example. */
  readonly length: number;
  readonly values: ColumnArray;
}

/** The examples of one chunk, kept in their encoded types: what memory holds is about what the disk does. */
export class Chunk {
  readonly count: number;
  readonly #inputs: readonly Column[];
  readonly #target: Column;

  constructor(count: number, columns: readonly Column[]) {
    this.count = count;
    this.#inputs = columns.slice(0, -1);
    this.#target = columns.at(-1)!;
  }

  /** Writes example `index` to the two arrays from these places on. */
  write(
    index: number,
    inputs: Float32Array,
    inputOffset: number,
    targets: Float32Array,
    targetOffset: number,
  ): void {
    let offset = inputOffset;
    for (const column of this.#inputs) {
      copyRow(column, index, inputs, offset);
      offset += column.length;
    }
    copyRow(this.#target, index, targets, targetOffset);
  }
}

function copyRow({ type, length, values }: Column, index: number, into: Float32Array, offset: number): void {
  const start = index * length;
  if (type === "unit8") for (let i = 0; i < length; i++) into[offset + i] = values[start + i]! / 255;
  else for (let i = 0; i < length; i++) into[offset + i] = values[start + i]!;
}

/** Lengths of the columns of a chunk: one a feature, and the target. */
function columnLengths({ inputShape, features, target }: ExampleShape): number[] {
  const inputs = features ? features.map(({ shape }) => product(shape)) : [product(inputShape)];
  return [...inputs, targetLength(target)];
}

/**
 * @param inputs f32 [count, row length]
 * @param targets f32 [count, target length]
 */
export function encodeChunk(
  shape: ExampleShape,
  examples: { readonly count: number; readonly inputs: Float32Array; readonly targets: Float32Array },
): Uint8Array {
  const { count } = examples;
  const lengths = columnLengths(shape);
  const rowLength = product(shape.inputShape);
  let from = 0;
  const columns = lengths.map((length, c): Column => {
    const isTarget = c === lengths.length - 1;
    const source = isTarget ? examples.targets : examples.inputs;
    const values = takeColumn(source, {
      count,
      length,
      from: isTarget ? 0 : from,
      stride: isTarget ? length : rowLength,
    });
    from += length;
    return narrow(values, length);
  });
  const header = encode({ count, columns: columns.map(({ type, length }) => ({ type, length })) });
  const places = layOut(
    header.byteLength,
    columns.map(({ values }) => values.byteLength),
  );
  const bytes = new Uint8Array(places.bytes);
  bytes.set(new TextEncoder().encode(magic));
  new DataView(bytes.buffer).setUint32(magic.length, header.byteLength, true);
  bytes.set(header, magic.length + 4);
  columns.forEach(({ values }, c) => {
    bytes.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength), places.starts[c]!);
  });
  return bytes;
}

/**
 * @throws RingfoldError ARTEFACT_CORRUPT for bytes that are no chunk of this shape; DATA_INVALID for a label or a category
 * that is out of range, or a number that is not finite, naming the example
 */
export function decodeChunk(shape: ExampleShape, bytes: Uint8Array): Chunk {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const start = magic.length + 4;
  if (bytes.byteLength < start || String.fromCharCode(...bytes.subarray(0, magic.length)) !== magic) {
    throw corrupt("it does not begin as one");
  }
  const headerBytes = view.getUint32(magic.length, true);
  if (headerBytes > Math.min(headerBytesMax, bytes.byteLength - start))
    throw corrupt("its header is cut off");
  const { count, columns } = readHeader(bytes.subarray(start, start + headerBytes));
  const lengths = columnLengths(shape);
  if (columns.length !== lengths.length || columns.some(({ length }, c) => length !== lengths[c])) {
    throw corrupt("its columns are not those of the data set");
  }
  const sizes = columns.map(({ type, length }) => count * length * arrays[type].BYTES_PER_ELEMENT);
  const places = layOut(headerBytes, sizes);
  if (places.bytes !== bytes.byteLength) throw corrupt(`${bytes.byteLength} bytes, not ${places.bytes}`);
  const decoded = columns.map(({ type, length }, c): Column => {
    // A copy, as these bytes need not be aligned (and `slice` of a Buffer is none).
    const own = new Uint8Array(bytes.subarray(places.starts[c]!, places.starts[c]! + sizes[c]!));
    return { type, length, values: new arrays[type](own.buffer, 0, count * length) };
  });
  checkValues(shape, decoded);
  return new Chunk(count, decoded);
}

function readHeader(bytes: Uint8Array): z.infer<typeof headerSchema> {
  try {
    return decode(bytes, headerSchema, headerBytesMax);
  } catch (cause) {
    throw corrupt("its header is damaged", cause);
  }
}

function layOut(headerBytes: number, sizes: readonly number[]): { starts: number[]; bytes: number } {
  const starts: number[] = [];
  let end = aligned(magic.length + 4 + headerBytes);
  for (const size of sizes) {
    starts.push(end);
    end = aligned(end + size);
  }
  return { starts, bytes: end };
}

const aligned = (bytes: number): number => Math.ceil(bytes / alignment) * alignment;

function takeColumn(
  source: Float32Array,
  of: { readonly count: number; readonly length: number; readonly from: number; readonly stride: number },
): Float32Array {
  const values = new Float32Array(of.count * of.length);
  for (let row = 0; row < of.count; row++) {
    const start = row * of.stride + of.from;
    values.set(source.subarray(start, start + of.length), row * of.length);
  }
  return values;
}

const ranges = [
  { type: "u8", low: 0, high: 255 },
  { type: "i16", low: -32_768, high: 32_767 },
  { type: "u16", low: 0, high: 65_535 },
] as const;

function narrow(values: Float32Array, length: number): Column {
  let low = Number.POSITIVE_INFINITY;
  let high = Number.NEGATIVE_INFINITY;
  let whole = true;
  let unit = true;
  for (const value of values) {
    if (value < low) low = value;
    if (value > high) high = value;
    // Not -0: an integer type would lose its sign.
    whole &&= Number.isInteger(value) && !Object.is(value, -0);
    unit &&=
      Math.fround(Math.round(value * 255) / 255) === value &&
      value >= 0 &&
      value <= 1 &&
      !Object.is(value, -0);
    if (!whole && !unit) return { type: "f32", length, values };
  }
  const range = whole
    ? ranges.find((candidate) => low >= candidate.low && high <= candidate.high)
    : undefined;
  if (range) return { type: range.type, length, values: arrays[range.type].from(values) };
  if (!unit) return { type: "f32", length, values };
  return { type: "unit8", length, values: Uint8Array.from(values, (value) => Math.round(value * 255)) };
}

/** What a model would take without a word: a label beyond the classes, a NaN. */
function checkValues({ features, target }: ExampleShape, columns: readonly Column[]): void {
  for (const [c, column] of columns.entries()) {
    const isTarget = c === columns.length - 1;
    const feature = isTarget ? undefined : features?.[c];
    const name = isTarget ? "the target" : (feature?.name ?? "the input");
    const range = isTarget ? targetRange(target) : categoryRange(feature);
    const { values, length, type } = column;
    if (type !== "f32" && !range) continue;
    const low = range?.low ?? -3.5e38;
    const high = range?.high ?? 3.5e38;
    for (let i = 0; i < values.length; i++) {
      const value = values[i]!;
      if (value >= low && value <= high && (!range || Number.isInteger(value))) continue;
      const wanted = range ? `a whole number from ${low} to ${high}` : "a finite number";
      throw new RingfoldError(
        "DATA_INVALID",
        `example ${Math.floor(i / length)} of a chunk: ${name} is ${value}, not ${wanted}`,
        { example: Math.floor(i / length), value },
      );
    }
  }
}

function targetRange(target: ExampleShape["target"]): { low: number; high: number } | undefined {
  if (target.kind === "number") return undefined;
  return { low: -1, high: target.kind === "binary" ? 1 : target.classCount - 1 };
}

const categoryRange = (
  feature: NonNullable<ExampleShape["features"]>[number] | undefined,
): { low: number; high: number } | undefined =>
  feature?.kind === "category" && feature.cardinality !== undefined
    ? { low: 0, high: feature.cardinality - 1 }
    : undefined;

const product = (shape: readonly number[]): number =>
  shape.reduce((total, dimension) => total * dimension, 1);

const corrupt = (detail: string, cause?: unknown): RingfoldError =>
  new RingfoldError("ARTEFACT_CORRUPT", `these bytes are no chunk of the data set: ${detail}`, {}, { cause });
