import type { FaultRecord } from "./fault-injector.ts";
import type { StepSighting } from "./job-observer.ts";

/** How fast the undisturbed ring of all agents was on this machine. */
export interface RingSpeed {
  readonly worldSize: number;
  readonly examplesPerSecond: number;
}

export interface ThroughputReport {
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
 * @param window first and last sighting that count; not the same moment
 */
export function throughputOf(options: {
  readonly window: { readonly from: StepSighting; readonly to: StepSighting };
  readonly batchSize: number;
  readonly spans: readonly LiveSpan[];
  readonly baseline: RingSpeed;
  readonly cores: number;
}): ThroughputReport {
  const { window, batchSize, spans, baseline, cores } = options;
  const seconds = (window.to.atMs - window.from.atMs) / 1_000;
  const examplesPerSecond = ((window.to.step - window.from.step) * batchSize) / seconds;
  const meanOver = (weight: (ranks: number) => number) =>
    spans.reduce((sum, { atMs, ranks }, i) => {
      const fromMs = Math.max(atMs, window.from.atMs);
      const toMs = Math.min(spans[i + 1]?.atMs ?? Number.POSITIVE_INFINITY, window.to.atMs);
      return sum + (weight(ranks) * Math.max(0, toMs - fromMs)) / 1_000;
    }, 0) / seconds;
  const liveRanks = meanOver((ranks) => ranks);
  const liveCores = meanOver((ranks) => Math.min(ranks, cores));
  const rawShare = examplesPerSecond / baseline.examplesPerSecond;
  return {
    baselineExamplesPerSecond: baseline.examplesPerSecond,
    examplesPerSecond,
    rawShare,
    perRankShare: rawShare * (baseline.worldSize / liveRanks),
    share: rawShare * (Math.min(baseline.worldSize, cores) / liveCores),
    cores,
    liveRanks,
  };
}
