import { limits } from "../../../protocol/limits.ts";
import type { ElementRange } from "../../ring/chunks.ts";

/** When a vector goes round in several pieces, and how long they are. */
export interface BucketRule {
  /** Shorter vectors go in one piece. */
  readonly overlapBytesMin: number;
  readonly bucketBytesMin: number;
}

/** A bucket starts at a cache line, as the ring's kernels and sockets want their places. */
const lineElements = 16;

/**
 * The pieces in which a vector of gradients goes round, in the order of their sums: from its end, as a backward pass comes
 * from the last layer. A function of the length alone, so that all ranks have the same whatever they compute with.
 *
 * Small vectors go in one piece: what could be hidden is less than what more operations cost (docs/ring.md).
 */
export function bucketsOf(elementCount: number, rule: BucketRule = limits): readonly ElementRange[] {
  const bytes = 4 * elementCount;
  if (bytes < rule.overlapBytesMin) return [{ start: 0, end: elementCount }];
  const bucketBytes = Math.max(rule.bucketBytesMin, bytes / limits.bucketsMax);
  const bucketElements = lineElements * Math.ceil(bucketBytes / 4 / lineElements);
  const buckets: ElementRange[] = [];
  for (let end = elementCount; end > 0; ) {
    const start = lineElements * Math.max(0, Math.floor((end - bucketElements) / lineElements));
    // A short rest goes with the bucket ahead of it.
    buckets.push({ start: start < bucketElements / 2 ? 0 : start, end });
    end = buckets.at(-1)!.start;
  }
  return buckets;
}
