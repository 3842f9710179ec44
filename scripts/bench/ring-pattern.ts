import type { Wire } from "../../protocol/job-spec.ts";

/**
 * What the ranks sum. Whole numbers from -50 to 50: sums of up to five ranks are exact in bf16 as in f32, so a result
 * is right or wrong to the bit. 101 is prime to every block and segment length, so a segment in a wrong place shows.
 */
const period = 101;
const amplitudeMax = 50;

const patternAt = (index: number, rank: number, round: number): number =>
  ((index * 31 + rank * 17 + round * 7) % period) - amplitudeMax;

export function fillPattern(buffer: Float32Array, { rank, round }: { rank: number; round: number }): void {
  const head = Math.min(period, buffer.length);
  for (let i = 0; i < head; i++) buffer[i] = patternAt(i, rank, round);
  // Doubling keeps the phase as every filled length is a multiple of the period.
  for (let filled = head; filled < buffer.length; filled *= 2)
    buffer.copyWithin(filled, 0, Math.min(filled, buffer.length - filled));
}

/** Index of the first element of `buffer` that is not the sum over `ranks`, or -1. Every element is looked at. */
export function findWrongElement(
  buffer: Float32Array,
  of: { readonly ranks: readonly number[]; readonly round: number; readonly wire: Wire },
): number {
  const expected = Float64Array.from({ length: period }, (_, i) =>
    of.ranks.reduce((sum, rank) => sum + patternAt(i, rank, of.round), 0),
  );
  const tolerance = toleranceOf(of.wire, of.ranks.length);
  for (let start = 0; start < buffer.length; start += period) {
    const end = Math.min(period, buffer.length - start);
    for (let i = 0; i < end; i++) {
      // Written so that NaN is wrong as well.
      if (!(Math.abs(buffer[start + i]! - expected[i]!) <= tolerance)) return start + i;
    }
  }
  return -1;
}

/** int8 rounds a partial sum of k ranks to steps of at most 50k/127, once for each k up to the world size. */
function toleranceOf(wire: Wire, worldSize: number): number {
  if (wire !== "int8") return 0;
  return 1.001 * (amplitudeMax / 127 / 2) * ((worldSize * (worldSize + 1)) / 2);
}

/** A number that differs when two ranks ended with different bits. */
export function digestOf(buffer: Float32Array): number {
  const words = new Int32Array(buffer.buffer, buffer.byteOffset, buffer.length);
  let digest = 0;
  for (let i = 0; i < words.length; i++) digest = (Math.imul(digest, 31) + words[i]!) | 0;
  return digest;
}
