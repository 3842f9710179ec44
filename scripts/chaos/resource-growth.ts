import type { ProcessLife, ResourceSample } from "./resource-monitor.ts";

/** A process opens its stores and dials its peers. */
const descriptorWindow = { warmUpMs: 10_000, lifeMs: 25_000 } as const;
/** V8 compiles, and stores, caches and curves fill. */
const memoryWindow = { warmUpMs: 60_000, lifeMs: 120_000 } as const;
/** Fewer readings say nothing. */
const collectedMin = 4;
const mib = 1024 * 1024;

export interface ResourceGrowth {
  readonly name: string;
  readonly seconds: number;
  readonly descriptors: number;
  /** Of what is alive after a full collection; null for a life too short to say. */
  readonly liveMB: number | null;
  /** Slope of the least-squares line through that after the warm-up. */
  readonly liveMBPerMinute: number | null;
  /** Of resident memory after a full collection: native leaks too, and what allocators keep. */
  readonly residentMB: number | null;
}

/** How far each process that lived long enough grew, the longest life first. */
export function growthOf(lives: Iterable<ProcessLife>): ResourceGrowth[] {
  return [...lives]
    .map(({ name, samples }) => {
      const memory = collectedOf(warmPart(samples, memoryWindow));
      return {
        name,
        seconds: (samples.at(-1)!.atMs - samples[0]!.atMs) / 1_000,
        descriptors: descriptorGrowth(warmPart(samples, descriptorWindow)),
        liveMB: memory && leastGrowth(memory.map(({ liveMB }) => liveMB)),
        liveMBPerMinute: memory && 60_000 * slopePerMs(memory),
        residentMB: memory && leastGrowth(memory.map(({ residentMB }) => residentMB)),
      };
    })
    .filter((growth): growth is ResourceGrowth => growth.descriptors !== null)
    .toSorted((a, b) => b.seconds - a.seconds);
}

function warmPart(
  samples: readonly ResourceSample[],
  { warmUpMs, lifeMs }: { readonly warmUpMs: number; readonly lifeMs: number },
): readonly ResourceSample[] | undefined {
  const bornAtMs = samples[0]!.atMs;
  if (samples.at(-1)!.atMs - bornAtMs < lifeMs) return undefined;
  return samples.filter(({ atMs }) => atMs - bornAtMs >= warmUpMs);
}

/**
 * From the most in the first third of a life to the least in the last: a socket that comes and goes is no leak, and what
 * a slow start opens late is not one either.
 */
function descriptorGrowth(samples: readonly ResourceSample[] | undefined): number | null {
  if (!samples) return null;
  const { first, last } = outerThirds(samples.map(({ descriptors }) => descriptors));
  return Math.min(...last) - Math.max(...first);
}

interface MemoryPoint {
  readonly atMs: number;
  readonly liveMB: number;
  readonly residentMB: number;
}

/** Null for a life too short to say. */
function collectedOf(samples: readonly ResourceSample[] | undefined): readonly MemoryPoint[] | null {
  const points = (samples ?? []).flatMap(({ atMs, collected }) =>
    collected ? [{ atMs, liveMB: collected.liveBytes / mib, residentMB: collected.residentBytes / mib }] : [],
  );
  return points.length < collectedMin ? null : points;
}

/** From the least in the first third to the least in the last: what one step holds for a moment is no leak. */
function leastGrowth(values: readonly number[]): number {
  const { first, last } = outerThirds(values);
  return Math.min(...last) - Math.min(...first);
}

function outerThirds(values: readonly number[]): { first: readonly number[]; last: readonly number[] } {
  const third = Math.max(1, Math.floor(values.length / 3));
  return { first: values.slice(0, third), last: values.slice(-third) };
}

/** MB a millisecond. */
function slopePerMs(points: readonly MemoryPoint[]): number {
  const mean = (of: (point: MemoryPoint) => number) =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length;
  const meanAtMs = mean(({ atMs }) => atMs);
  const meanMB = mean(({ liveMB }) => liveMB);
  const covariance = mean(({ atMs, liveMB }) => (atMs - meanAtMs) * (liveMB - meanMB));
  return covariance / mean(({ atMs }) => (atMs - meanAtMs) ** 2);
}
