import type { FaultRecord } from "./fault-injector.ts";
import type { StepSighting } from "./job-observer.ts";

/** Two sightings of the ring; not the same moment. */
export interface SightedSpan {
  readonly from: StepSighting;
  readonly to: StepSighting;
}

/** A time in which agents were struck, and the undisturbed ring right before it and after. */
export interface ComparedSpan {
  readonly struck: SightedSpan;
  readonly calm: readonly SightedSpan[];
}

export interface ThroughputReport {
  /** Of the undisturbed ring, in the calm stretches. */
  readonly baselineExamplesPerSecond: number;
  readonly examplesPerSecond: number;
  /** Examples a second against the baseline: the missing work of dead agents counts as lost. */
  readonly rawShare: number;
  /** Examples a second and live rank against the baseline's. Flatters where ranks share cores. */
  readonly perRankShare: number;
  /** Examples against those of as many undisturbed ranks, of which no more than `cores` work at one time. */
  readonly share: number;
  readonly cores: number;
  /** Mean over the time. */
  readonly liveRanks: number;
}

interface Generation {
  readonly startedAtMs: number;
  readonly ranks: readonly string[];
}

/** From `atMs` on, until the next span, so many ranks of the current generation lived. */
export interface LiveSpan {
  readonly atMs: number;
  readonly ranks: number;
}

/**
 * How many ranks of the current generation were alive, over time: a rank counts until it is struck, and survivors
 * count while the ring re-forms, so that the time it takes is paid for.
 */
export function liveSpans(
  generations: readonly Generation[],
  faults: readonly Pick<FaultRecord, "atMs" | "peerId">[],
): LiveSpan[] {
  return generations.flatMap(({ startedAtMs, ranks }, i) => {
    const endMs = generations[i + 1]?.startedAtMs ?? Number.POSITIVE_INFINITY;
    const struck = faults
      .filter(({ atMs, peerId }) => ranks.includes(peerId) && atMs >= startedAtMs && atMs < endMs)
      .map(({ atMs }) => atMs)
      .toSorted((a, b) => a - b);
    return [startedAtMs, ...struck].map((atMs, dead) => ({ atMs, ranks: ranks.length - dead }));
  });
}

/**
 * What a disturbed run did, against what its live ranks would have done undisturbed.
 *
 * Ranks with a core each add up. Ranks beyond the cores of the machine only divide them, so the death of one of four on
 * two cores frees no work and excuses no slowness: there a live rank is worth `min(ranks, cores) / ranks` cores.
 *
 * @param compared at least one; each is held against the mean of its own calm spans
 */
export function throughputOf(options: {
  readonly compared: readonly ComparedSpan[];
  readonly batchSize: number;
  readonly spans: readonly LiveSpan[];
  /** Ranks of the undisturbed ring. */
  readonly worldSize: number;
  readonly cores: number;
}): ThroughputReport {
  const { compared, batchSize, spans, worldSize, cores } = options;
  const sum = (of: (span: ComparedSpan) => number) => compared.reduce((all, span) => all + of(span), 0);
  const seconds = sum(({ struck }) => secondsOf(struck));
  const meanOver = (weight: (ranks: number) => number) =>
    sum(({ struck }) => weighted(spans, struck, weight)) / seconds;
  const liveRanks = meanOver((ranks) => ranks);
  const liveCores = meanOver((ranks) => Math.min(ranks, cores));
  const steps = sum(({ struck }) => struck.to.step - struck.from.step);
  const undisturbed = sum(({ struck, calm }) => meanSpeed(calm) * secondsOf(struck));
  const rawShare = steps / undisturbed;
  return {
    baselineExamplesPerSecond: (undisturbed * batchSize) / seconds,
    examplesPerSecond: (steps * batchSize) / seconds,
    rawShare,
    perRankShare: rawShare * (worldSize / liveRanks),
    share: rawShare * (Math.min(worldSize, cores) / liveCores),
    cores,
    liveRanks,
  };
}

const secondsOf = ({ from, to }: SightedSpan): number => (to.atMs - from.atMs) / 1_000;

/** Steps a second. */
const meanSpeed = (calm: readonly SightedSpan[]): number =>
  calm.reduce((sum, span) => sum + (span.to.step - span.from.step) / secondsOf(span), 0) / calm.length;

/** The integral over a time, in seconds, of what so many live ranks weigh. */
const weighted = (
  spans: readonly LiveSpan[],
  { from, to }: SightedSpan,
  weight: (ranks: number) => number,
): number =>
  spans.reduce((sum, { atMs, ranks }, i) => {
    const fromMs = Math.max(atMs, from.atMs);
    const toMs = Math.min(spans[i + 1]?.atMs ?? Number.POSITIVE_INFINITY, to.atMs);
    return sum + (weight(ranks) * Math.max(0, toMs - fromMs)) / 1_000;
  }, 0);
