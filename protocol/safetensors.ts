import { z } from "zod";
import { RingfoldError } from "./errors.ts";

/**
 * safetensors, the part that we exchange: f32 tensors. 8 bytes of header length (little-endian), a JSON header, then
 * the data. Written here because npm has no maintained reader that takes bytes; strict, so that hostile bytes end in
 * ARTEFACT_CORRUPT and nowhere else. Source: github.com/huggingface/safetensors, "Format".
 */
export interface NamedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

/** The format's own bound on the header. */
const headerBytesMax = 100_000_000;
/** Data starts at a multiple of this, so that a Float32Array can lie over it. */
const alignment = 8;

const entrySchema = z.object({
  dtype: z.literal("F32"),
  shape: z.array(z.number().int().nonnegative()),
  data_offsets: z.tuple([z.number().int().nonnegative(), z.number().int().nonnegative()]),
});

export function encodeSafetensors(
  tensors: readonly NamedTensor[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const header: [name: string, entry: object][] = [];
  if (Object.keys(metadata).length > 0) header.push(["__metadata__", metadata]);
  let offset = 0;
  for (const { name, shape, data } of tensors) {
    header.push([name, { dtype: "F32", shape, data_offsets: [offset, offset + data.byteLength] }]);
    offset += data.byteLength;
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(header)));
  const headerBytes = Math.ceil(json.byteLength / alignment) * alignment;
  const bytes = new Uint8Array(8 + headerBytes + offset);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(headerBytes), true);
  bytes.fill(0x20, 8, 8 + headerBytes); // the format pads its header with spaces
  bytes.set(json, 8);
  let at = 8 + headerBytes;
  for (const { data } of tensors) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at);
    at += data.byteLength;
  }
  return bytes;
}

/**
 * The tensors, copied out of `bytes`, in the order of their data, and the metadata.
 * @throws RingfoldError ARTEFACT_CORRUPT on anything that is not exactly such a file
 */
export function decodeSafetensors(bytes: Uint8Array): {
  tensors: NamedTensor[];
  metadata: Record<string, string>;
} {
  const { header, dataStart } = readHeader(bytes);
  const { __metadata__ = {}, ...rest } = header;
  const metadata = parsed(z.record(z.string(), z.string()), __metadata__, "__metadata__");
  // Entries may stand in any order; JavaScript itself moves a name like "7" to the front.
  const entries = Object.entries(rest)
    .map(([name, value]) => ({ name, ...parsed(entrySchema, value, name) }))
    .sort((a, b) => a.data_offsets[0] - b.data_offsets[0] || a.data_offsets[1] - b.data_offsets[1]);
  const tensors: NamedTensor[] = [];
  let expectedStart = 0;
  for (const { name, shape, data_offsets } of entries) {
    const [start, end] = data_offsets;
    const elementCount = shape.reduce((product, dimension) => product * dimension, 1);
    if (start !== expectedStart || end - start !== 4 * elementCount || dataStart + end > bytes.byteLength) {
      throw corrupt(`tensor ${name}: offsets ${start}-${end} do not fit`);
    }
    expectedStart = end;
    tensors.push({
      name,
      shape,
      data: floatsAt(bytes, dataStart + start, elementCount),
    });
  }
  if (dataStart + expectedStart !== bytes.byteLength) throw corrupt("bytes left over after the last tensor");
  return { tensors, metadata };
}

/** A copy: the tensor may lie unaligned in `bytes`, and a Buffer's own `slice` would be a view. */
function floatsAt(bytes: Uint8Array, start: number, elementCount: number): Float32Array {
  const floats = new Float32Array(elementCount);
  new Uint8Array(floats.buffer).set(bytes.subarray(start, start + floats.byteLength));
  return floats;
}

function readHeader(bytes: Uint8Array): { header: Record<string, unknown>; dataStart: number } {
  if (bytes.byteLength < 8) throw corrupt(`${bytes.byteLength} bytes are too few`);
  const length = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  if (length > headerBytesMax || Number(length) > bytes.byteLength - 8)
    throw corrupt(`header of ${length} bytes`);
  const dataStart = 8 + Number(length);
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes.subarray(8, dataStart));
    return { header: parsed(z.record(z.string(), z.unknown()), JSON.parse(text), "header"), dataStart };
  } catch (cause) {
    throw cause instanceof RingfoldError ? cause : corrupt("header is not JSON", cause);
  }
}

function parsed<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const result = schema.safeParse(value);
  if (!result.success) throw corrupt(`${what}: ${result.error.issues[0]?.message ?? "invalid"}`);
  return result.data;
}

const corrupt = (detail: string, cause?: unknown): RingfoldError =>
  new RingfoldError("ARTEFACT_CORRUPT", `safetensors: ${detail}`, {}, { cause });
