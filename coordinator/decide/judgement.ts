import { bucketAt, latencyCount, quantileMs } from "../../protocol/latency-histogram.ts";
import type { RolloutBounds } from "../../protocol/messages/rollout.ts";
import type { ServedCounts } from "../../protocol/messages/served.ts";
import { errorCount } from "./served-counts.ts";

/** What both sides of a rollout have answered in the same time. */
export interface Evidence {
  readonly candidate: ServedCounts;
  /** Null where the candidate gets everything, and did from the first step on: then there is nothing to compare it with. */
  readonly live: ServedCounts | null;
}

export interface Judgement {
  /** `broken`: surely worse than allowed; `within`: enough was seen, and it is not; `open`: not enough was seen. */
  readonly verdict: "broken" | "within" | "open";
  readonly reason: string;
}

/** Of the candidate, before anything is held against it: of three requests that fail nobody knows why. */
const judgedMin = 20;
/**
 * One-sided normal quantiles: 99.9% before a version is called worse, as it is looked at again and again while it is held;
 * 95% before it is called as good, once its hold is over.
 */
const z = { worse: 3.09, asGood: 1.645 } as const;
const tail = 0.95;

/**
 * Errors by the difference of two proportions, times by the tail of two samples. Pure.
 *
 * Sources: R. G. Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine
 * 17 (1998), method 10, made of E. B. Wilson's score intervals (JASA 22, 1927); W. J. Conover, "Practical
 * Nonparametric Statistics", 3rd ed. (1999), section 3.2: the interval of a quantile by ranks.
 */
export function judge(evidence: Evidence, bounds: RolloutBounds): Judgement {
  const { candidate, live } = evidence;
  if (candidate.requests >= judgedMin) {
    const worse = failsMore(evidence, bounds) ?? isSlower(evidence, bounds);
    if (worse !== undefined) return { verdict: "broken", reason: worse };
  }
  const { minRequests } = bounds;
  if (candidate.requests === 0) return { verdict: "open", reason: "no request has come to it" };
  if (candidate.requests < minRequests)
    return {
      verdict: "open",
      reason: `${candidate.requests} of at least ${minRequests} requests have come to it`,
    };
  if (live && live.requests < minRequests) {
    const reason = `${live.requests} of at least ${minRequests} requests to the live version have come to compare with`;
    return { verdict: "open", reason };
  }
  return areErrorsWithin(evidence, bounds) ?? isTailWithin(evidence, bounds);
}

/** In words, where it fails more often than the live one by more than it may, beyond chance. */
function failsMore({ candidate, live }: Evidence, { maxErrorRate }: RolloutBounds): string | undefined {
  const { lower } = difference(candidate, live, z.worse);
  if (lower <= maxErrorRate) return undefined;
  const kinds = Object.entries(candidate.errors)
    .toSorted(([, one], [, other]) => other - one)
    .map(([code, count]) => `${code} ${count}`);
  return (
    `it fails ${share(candidate)}, the live one ${live ? share(live) : "unknown"}: ` +
    `at least ${percent(lower)} more, ${percent(maxErrorRate)} are allowed (${kinds.join(", ")})`
  );
}

function areErrorsWithin(
  { candidate, live }: Evidence,
  { maxErrorRate }: RolloutBounds,
): Judgement | undefined {
  const { upper } = difference(candidate, live, z.asGood);
  if (upper <= maxErrorRate) return undefined;
  const reason =
    `${candidate.requests} requests of which ${errorCount(candidate)} failed do not tell yet whether it fails ` +
    `at most ${percent(maxErrorRate)} more often: it may be ${percent(upper)}`;
  return { verdict: "open", reason };
}

/** In words, where its tail is longer than that of the live one by more than it may, beyond chance. */
function isSlower({ candidate, live }: Evidence, bounds: RolloutBounds): string | undefined {
  const least = tailBounds(candidate, z.worse).leastMs;
  const most = live ? tailBounds(live, z.worse).mostMs : null;
  if (least === null || most === null || least <= allowedMs(most, bounds)) return undefined;
  return (
    `95% of its answers take up to ${milliseconds(tailMs(candidate)!)}, at least ${milliseconds(least)}; those of the live one ` +
    `${milliseconds(tailMs(live!)!)}, and ${bounds.maxLatencyRatio} times that is allowed`
  );
}

function isTailWithin({ candidate, live }: Evidence, bounds: RolloutBounds): Judgement {
  const [mine, theirs] = [tailMs(candidate), live && tailMs(live)];
  const errors = `fails ${share(candidate)}`;
  if (mine === null || theirs === null)
    return { verdict: "within", reason: `${errors}; there are no times to compare` };
  const times = `95% of its answers take up to ${milliseconds(mine)}, of the live one ${milliseconds(theirs)}`;
  return mine <= allowedMs(theirs, bounds)
    ? { verdict: "within", reason: `${errors}; ${times}` }
    : { verdict: "open", reason: `${times}: more than is allowed, and not yet beyond chance` };
}

/** A ratio, and some milliseconds for who is so fast that the way to another machine counts. */
const allowedMs = (liveMs: number, { maxLatencyRatio, latencySlackMs }: RolloutBounds): number =>
  Math.max(liveMs * maxLatencyRatio, liveMs + latencySlackMs);

export const tailMs = ({ latency }: ServedCounts): number | null => quantileMs(latency, tail);

/** Where the true tail lies: a bucket's far edge each, null where there are too few to say. */
function tailBounds({ latency }: ServedCounts, zValue: number) {
  const count = latencyCount(latency);
  const spread = zValue * Math.sqrt(count * tail * (1 - tail));
  const low = Math.floor(count * tail - spread);
  const high = Math.ceil(count * tail + spread) + 1;
  return {
    leastMs: low < 1 ? null : (bucketAt(latency, low)?.overMs ?? null),
    mostMs: high > count ? null : (bucketAt(latency, high)?.upToMs ?? null),
  };
}

/** By how much more often the candidate fails. Without a live one to compare with it may never fail. */
function difference(candidate: ServedCounts, live: ServedCounts | null, zValue: number) {
  const mine = wilson(candidate, zValue);
  const theirs = live ? wilson(live, zValue) : { rate: 0, lower: 0, upper: 0 };
  const rate = mine.rate - theirs.rate;
  return {
    lower: rate - Math.hypot(mine.rate - mine.lower, theirs.upper - theirs.rate),
    upper: rate + Math.hypot(mine.upper - mine.rate, theirs.rate - theirs.lower),
  };
}

/** The score interval of a rate: of nothing, anything between 0 and 1. */
function wilson(counts: ServedCounts, zValue: number) {
  const { requests } = counts;
  if (requests === 0) return { rate: 0, lower: 0, upper: 1 };
  const rate = errorCount(counts) / requests;
  const squared = zValue ** 2;
  const centre = (rate + squared / (2 * requests)) / (1 + squared / requests);
  const half =
    (zValue / (1 + squared / requests)) *
    Math.sqrt((rate * (1 - rate)) / requests + squared / (4 * requests ** 2));
  return { rate, lower: Math.max(0, centre - half), upper: Math.min(1, centre + half) };
}

const share = (counts: ServedCounts): string =>
  `${percent(counts.requests === 0 ? 0 : errorCount(counts) / counts.requests)} of ${counts.requests}`;
const percent = (rate: number): string => `${Number((100 * rate).toPrecision(3))}%`;
const milliseconds = (ms: number): string => `${Number(ms.toPrecision(2))} ms`;
