import type { ProcessLife, ResourceSample } from "./resource-monitor.ts";

/** A process opens its stores and dials its peers. */
const descriptorWindow = { warmUpMs: 10_000, lifeMs: 25_000 } as const;
/** V8 compiles, and its heap finds its size: a trainer was seen to grow by 100 MB in a minute and by nothing after it. */
const memoryWindow = { warmUpMs: 60_000, lifeMs: 120_000 } as const;
const mib = 1024 * 1024;

export interface ResourceGrowth {
  readonly name: string;
  readonly seconds: number;
  readonly descriptors: number;
  /** Null for a life too short to say. */
  readonly residentMB: number | null;
  /** Slope of the least-squares line through the life after its warm-up. */
  readonly residentMBPerMinute: number | null;
}

/** How far each process that lived long enough grew, the longest life first. */
export function growthOf(lives: Iterable<ProcessLife>): ResourceGrowth[] {
  return [...lives]
    .map(({ name, samples }) => {
      const memory = warmPart(samples, memoryWindow);
      return {
        name,
        seconds: (samples.at(-1)!.atMs - samples[0]!.atMs) / 1_000,
        descriptors: descriptorGrowth(warmPart(samples, descriptorWindow)),
        residentMB: memoryGrowth(memory),
        residentMBPerMinute: memory ? 60_000 * slopePerMs(memory) : null,
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

/** From the least in the first third to the least in the last, MB: a heap that waits for its next collection is no leak. */
function memoryGrowth(samples: readonly ResourceSample[] | undefined): number | null {
  if (!samples) return null;
  const { first, last } = outerThirds(samples.map(({ residentBytes }) => residentBytes / mib));
  return Math.min(...last) - Math.min(...first);
}

function outerThirds(values: readonly number[]): { first: readonly number[]; last: readonly number[] } {
  const third = Math.max(1, Math.floor(values.length / 3));
  return { first: values.slice(0, third), last: values.slice(-third) };
}

/** MB a millisecond. */
function slopePerMs(samples: readonly ResourceSample[]): number {
  const mean = (of: (sample: ResourceSample) => number) =>
    samples.reduce((sum, sample) => sum + of(sample), 0) / samples.length;
  const meanAtMs = mean(({ atMs }) => atMs);
  const meanMB = mean(({ residentBytes }) => residentBytes / mib);
  const covariance = mean(({ atMs, residentBytes }) => (atMs - meanAtMs) * (residentBytes / mib - meanMB));
  return covariance / mean(({ atMs }) => (atMs - meanAtMs) ** 2);
}
