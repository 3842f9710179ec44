import { limits } from "./limits.ts";
import type { LinkCost } from "./link-model.ts";

/** How ranks cut what they exchange, and how much of it each may have under way. */
export interface SegmentFlow {
  readonly segmentBytes: number;
  /** Segments of one rank. */
  readonly window: number;
}

/** On links without latency worth speaking of: what stays in the cache. */
export const segmentFlows = {
  encrypted: { segmentBytes: limits.segmentBytes, window: limits.segmentWindow },
  plaintext: { segmentBytes: limits.segmentBytesPlain, window: limits.segmentWindowPlain },
} as const satisfies Record<string, SegmentFlow>;

/** One slot more than the window, each with a header. */
export const windowMax = (segmentBytes: number): number =>
  Math.floor(limits.slotBytesMax / (segmentBytes + limits.frameHeaderBytes)) - 1;

/** Bytes of one rank that may be under way. */
export const flightBytes = ({ segmentBytes, window }: SegmentFlow): number => segmentBytes * window;

/**
 * The flow for these links: as many segments as leave on the longest of them while the first is under way, so that no rank
 * waits for latency, but no more than a ring's slots hold. The size of the ring does not matter: with each rank more, a segment
 * passes one hop more and a window more is under way.
 */
export function flowOver(links: readonly LinkCost[], transport: keyof typeof segmentFlows): SegmentFlow {
  const { segmentBytes, window } = segmentFlows[transport];
  const bytes = Math.max(
    0,
    ...links.map(
      ({ latencyMs, bytesPerSecond }) =>
        (latencyMs / 1_000) * Math.max(bytesPerSecond, limits.linkBytesPerSecondSupposed),
    ),
  );
  const wanted = Math.max(window, 1 + Math.ceil(bytes / segmentBytes));
  return { segmentBytes, window: Math.min(wanted, windowMax(segmentBytes)) };
}
