import type { ProcessLife, ResourceSample } from "./resource-monitor.ts";

/** A process opens its stores and dials its peers. */
const descriptorWindow = { warmUpMs: 10_000, lifeMs: 25_000 } as const;
/** V8 compiles, and stores, caches and curves fill. */
const memoryWindow = { warmUpMs: 60_000, lifeMs: 120_000 } as const;
/** Fewer readings say nothing. */
const liveSamplesMin = 4;
const mib = 1024 * 1024;

export interface ResourceGrowth {
  readonly name: string;
  readonly seconds: number;
  readonly descriptors: number;
  /** Of memory after a full collection; null for a life too short to say. */
  readonly liveMB: number | null;
  /** Slope of the least-squares line through it after the warm-up. */
  readonly liveMBPerMinute: number | null;
}

/** How far each process that lived long enough grew, the longest life first. */
export function growthOf(lives: Iterable<ProcessLife>): ResourceGrowth[] {
  return [...lives]
    .map(({ name, samples }) => {
      const memory = warmPart(samples, memoryWindow);
      const liveMB = memoryGrowth(memory);
      return {
        name,
        seconds: (samples.at(-1)!.atMs - samples[0]!.atMs) / 1_000,
        descriptors: descriptorGrowth(warmPart(samples, descriptorWindow)),
        liveMB,
        liveMBPerMinute: memory && liveMB !== null ? 60_000 * slopePerMs(memory) : null,
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

/** From the least in the first third to the least in the last, MB: what one step holds for a moment is no leak. */
function memoryGrowth(samples: readonly ResourceSample[] | undefined): number | null {
  if (!samples || liveOf(samples).length < liveSamplesMin) return null;
  const { first, last } = outerThirds(liveOf(samples).map(({ liveMB }) => liveMB));
  return Math.min(...last) - Math.min(...first);
}

function outerThirds(values: readonly number[]): { first: readonly number[]; last: readonly number[] } {
  const third = Math.max(1, Math.floor(values.length / 3));
  return { first: values.slice(0, third), last: values.slice(-third) };
}

/** MB a millisecond. */
function slopePerMs(samples: readonly ResourceSample[]): number {
  const points = liveOf(samples);
  const mean = (of: (point: (typeof points)[number]) => number) =>
    points.reduce((sum, point) => sum + of(point), 0) / points.length;
  const meanAtMs = mean(({ atMs }) => atMs);
  const meanMB = mean(({ liveMB }) => liveMB);
  const covariance = mean(({ atMs, liveMB }) => (atMs - meanAtMs) * (liveMB - meanMB));
  return covariance / mean(({ atMs }) => (atMs - meanAtMs) ** 2);
}

const liveOf = (samples: readonly ResourceSample[]): { readonly atMs: number; readonly liveMB: number }[] =>
  samples.flatMap(({ atMs, liveBytes }) => (liveBytes === null ? [] : [{ atMs, liveMB: liveBytes / mib }]));
