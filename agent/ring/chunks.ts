import assert from "node:assert";

/** A half-open range of elements. */
export interface ElementRange {
  readonly start: number;
  readonly end: number;
}

/**
 * Chunk `chunkIndex` of `worldSize` nearly equal parts of a buffer. Every chunk starts at a multiple of `alignment`
 * elements; lengths differ by less than twice that.
 */
export function chunkRange(of: {
  readonly elementCount: number;
  readonly worldSize: number;
  readonly chunkIndex: number;
  readonly alignment?: number;
}): ElementRange {
  const { elementCount, worldSize, chunkIndex, alignment = 1 } = of;
  assert(chunkIndex >= 0 && chunkIndex < worldSize);
  const units = Math.floor(elementCount / alignment);
  const startOf = (index: number): number =>
    index === worldSize
      ? elementCount
      : alignment * (index * Math.floor(units / worldSize) + Math.min(index, units % worldSize));
  return { start: startOf(chunkIndex), end: startOf(chunkIndex + 1) };
}

export function segmentCount(chunk: ElementRange, segmentElements: number): number {
  return Math.ceil((chunk.end - chunk.start) / segmentElements);
}

export function segmentRange(
  chunk: ElementRange,
  segmentElements: number,
  segmentIndex: number,
): ElementRange {
  const start = chunk.start + segmentIndex * segmentElements;
  return { start, end: Math.min(chunk.end, start + segmentElements) };
}

/**
 * The ring walks 2(W-1) stages: W-1 of reduce-scatter, then W-1 of all-gather. At `stage` a rank receives this chunk
 * from upstream; what it received at one stage it sends at the next.
 */
export function receivedChunkIndex(at: {
  readonly rank: number;
  readonly worldSize: number;
  readonly stage: number;
}): number {
  const { rank, worldSize, stage } = at;
  return (((rank - 1 - stage) % worldSize) + worldSize) % worldSize;
}

export const stageCount = (worldSize: number): number => 2 * (worldSize - 1);
