import { RingfoldError } from "../../../protocol/errors.ts";
import type { SparseVector } from "./top-k.ts";

/** A sparse vector on the wire: the totals (f32), the places (u32), then the values (f32), little-endian as the ring. */
export const sparseBytes = (of: { readonly totalCount: number; readonly entryCount: number }): number =>
  4 * of.totalCount + 8 * of.entryCount;

export function encodeSparse(totals: Float32Array, { places, values }: SparseVector): Uint8Array {
  const bytes = new Uint8Array(sparseBytes({ totalCount: totals.length, entryCount: places.length }));
  new Float32Array(bytes.buffer, 0, totals.length).set(totals);
  new Uint32Array(bytes.buffer, 4 * totals.length, places.length).set(places);
  new Float32Array(bytes.buffer, 4 * (totals.length + places.length), values.length).set(values);
  return bytes;
}

/**
 * Adds what a rank has sent to `values` and `totals`.
 * @throws RingfoldError MESSAGE_INVALID unless it has `count` entries at ascending places of `values`
 */
export function addSparse(
  bytes: Uint8Array,
  into: {
    readonly rank: number;
    readonly count: number;
    readonly values: Float32Array;
    readonly totals: Float32Array;
  },
): void {
  const { rank, count, values, totals } = into;
  const expectedBytes = sparseBytes({ totalCount: totals.length, entryCount: count });
  if (bytes.length !== expectedBytes) {
    throw new RingfoldError("MESSAGE_INVALID", `rank ${rank} sent ${bytes.length} bytes of a sparse vector`, {
      rank,
      expectedBytes,
    });
  }
  const start = bytes.byteOffset;
  const sent = new Float32Array(bytes.buffer, start, totals.length);
  const places = new Uint32Array(bytes.buffer, start + 4 * totals.length, count);
  const entries = new Float32Array(bytes.buffer, start + 4 * (totals.length + count), count);
  for (let i = 0; i < totals.length; i++) totals[i]! += sent[i]!;
  for (let i = 0; i < count; i++) {
    const place = places[i]!;
    if (place >= values.length || (i > 0 && place <= places[i - 1]!)) {
      throw new RingfoldError("MESSAGE_INVALID", `rank ${rank} sent a sparse vector out of order`, { rank });
    }
    values[place]! += entries[i]!;
  }
}
