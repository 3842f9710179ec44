import { addLatencies, latenciesSince, noLatencies } from "../../protocol/latency-histogram.ts";
import type { ServedCounts } from "../../protocol/messages/served.ts";

/** Sums and differences of what gateways have counted. */

export const nothingServed: ServedCounts = { requests: 0, errors: {}, latency: noLatencies };

export const addServed = (one: ServedCounts, other: ServedCounts): ServedCounts => ({
  requests: one.requests + other.requests,
  errors: errorsOf(one, other, (mine, theirs) => mine + theirs),
  latency: addLatencies(one.latency, other.latency),
});

/** What came to `after` since `before`, both of one life of one gateway. */
export const servedSince = (after: ServedCounts, before: ServedCounts): ServedCounts => ({
  requests: Math.max(0, after.requests - before.requests),
  errors: errorsOf(after, before, (now, then) => Math.max(0, now - then)),
  latency: latenciesSince(after.latency, before.latency),
});

export const errorCount = ({ errors }: Pick<ServedCounts, "errors">): number =>
  Object.values(errors).reduce((sum, count) => sum + count, 0);

function errorsOf(
  one: ServedCounts,
  other: ServedCounts,
  combine: (mine: number, theirs: number) => number,
): Record<string, number> {
  const codes = new Set([...Object.keys(one.errors), ...Object.keys(other.errors)]);
  const all = Array.from(
    codes,
    (code) => [code, combine(one.errors[code] ?? 0, other.errors[code] ?? 0)] as const,
  );
  return Object.fromEntries(all.filter(([, count]) => count > 0));
}
