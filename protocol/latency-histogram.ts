import { z } from "zod";

/**
 * Times in fixed buckets, so that those of many gateways add up and a bound of memory holds: bucket i has what is longer than
 * base^i ms and no longer than base^(i+1) ms, with base = 2^(1/8). A quantile is known to a bucket: the geometric middle is at most
 * 4.4% off. What lies outside is counted in the first or the last bucket.
 *
 * Source: OpenTelemetry, "Metrics Data Model", exponential histogram of scale 3; Prometheus native histograms, schema 3.
 */
const bucketsPerDoubling = 8;
/** 2^-4 = 0.06 ms, faster than a hop over loopback, */
const firstIndex = -4 * bucketsPerDoubling;
/** and 2^16 = 65 s, longer than any prediction may take. 160 buckets, as OpenTelemetry has at most by default. */
const lastIndex = 16 * bucketsPerDoubling - 1;
const bucketCount = lastIndex - firstIndex + 1;

/** `counts[k]` is of bucket `offset + k`; empty ends are left out. */
export const latencyHistogramSchema = z
  .object({
    offset: z.number().int().min(firstIndex).max(lastIndex),
    counts: z.array(z.number().int().nonnegative()).max(bucketCount),
  })
  .refine(({ offset, counts }) => offset + counts.length - 1 <= lastIndex, "buckets beyond the last one");
export type LatencyHistogram = z.infer<typeof latencyHistogramSchema>;

export const noLatencies: LatencyHistogram = { offset: 0, counts: [] };

/** Counts in place: a prediction costs one addition. */
export class LatencyRecorder {
  readonly #counts = new Array<number>(bucketCount).fill(0);

  add(latencyMs: number): void {
    const exact = Math.ceil(Math.log2(latencyMs) * bucketsPerDoubling) - 1;
    this.#counts[Math.min(lastIndex, Math.max(firstIndex, exact)) - firstIndex]!++;
  }

  get histogram(): LatencyHistogram {
    return trimmed(firstIndex, this.#counts);
  }
}

export const latencyCount = ({ counts }: LatencyHistogram): number =>
  counts.reduce((sum, count) => sum + count, 0);

/** Of both together; in any order the same. */
export const addLatencies = (one: LatencyHistogram, other: LatencyHistogram): LatencyHistogram =>
  combined(one, other, (mine, theirs) => mine + theirs);

/** What came to `after` since `before`. */
export const latenciesSince = (after: LatencyHistogram, before: LatencyHistogram): LatencyHistogram =>
  combined(after, before, (now, then) => Math.max(0, now - then));

/**
 * The bucket of the `rank`-th shortest of all times, from 1.
 * @returns null where there are not so many
 */
export function bucketAt(
  { offset, counts }: LatencyHistogram,
  rank: number,
): { readonly overMs: number; readonly upToMs: number } | null {
  let seen = 0;
  for (let k = 0; k < counts.length; k++) {
    seen += counts[k]!;
    if (seen >= rank && counts[k]! > 0) return { overMs: edgeMs(offset + k), upToMs: edgeMs(offset + k + 1) };
  }
  return null;
}

/** @param share 0-1 @returns null of nothing */
export function quantileMs(histogram: LatencyHistogram, share: number): number | null {
  const bucket = bucketAt(histogram, Math.max(1, Math.ceil(share * latencyCount(histogram))));
  return bucket && Math.sqrt(bucket.overMs * bucket.upToMs);
}

const edgeMs = (index: number): number => 2 ** (index / bucketsPerDoubling);

function combined(
  one: LatencyHistogram,
  other: LatencyHistogram,
  combine: (mine: number, theirs: number) => number,
): LatencyHistogram {
  if (one.counts.length === 0 && other.counts.length === 0) return noLatencies;
  const offset = Math.min(one.offset, other.offset);
  const end = Math.max(one.offset + one.counts.length, other.offset + other.counts.length);
  const counts: number[] = [];
  for (let index = offset; index < end; index++)
    counts.push(combine(one.counts[index - one.offset] ?? 0, other.counts[index - other.offset] ?? 0));
  return trimmed(offset, counts);
}

function trimmed(offset: number, counts: readonly number[]): LatencyHistogram {
  const first = counts.findIndex((count) => count > 0);
  if (first < 0) return noLatencies;
  return {
    offset: offset + first,
    counts: counts.slice(first, counts.findLastIndex((count) => count > 0) + 1),
  };
}
