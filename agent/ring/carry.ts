import { RingfoldError } from "../../protocol/errors.ts";
import { type PeerLinks, type PlaceSegment, receiveEach, type Segment } from "./link.ts";

/** The segments of one operation round a ring, on one rank. */
export interface Collective {
  /** What is still to come; 0 is the end. */
  readonly remaining: number;
  /** What is still to be sent; with nothing left the downstream neighbour has, or will have, all that it needs of us. */
  readonly unsent: number;
  launch(): void;
  /** @throws RingfoldError MESSAGE_INVALID */
  take(segment: Segment): void;
  readonly place?: PlaceSegment | undefined;
}

/**
 * One operation round a ring, from its launch to its last segment; no segment is taken while more than `pendingMax` wait to
 * leave.
 * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | MESSAGE_INVALID | CANCELLED
 */
export async function carry(
  collective: Collective,
  { upstream, downstream }: PeerLinks,
  { pendingMax, signal }: { readonly pendingMax: number; readonly signal: AbortSignal },
): Promise<void> {
  const more = () => collective.remaining > 0;
  // The abort runs both ways: who waits for its upstream must not wait when the rank below has broken the ring. Once all
  // that it needs was sent, it may have ended the operation, and with it the generation, before this rank.
  await untilBroken([downstream], { isNeeded: () => collective.unsent > 0, signal }, async (stop) => {
    const untilSent = async () => {
      await downstream.drained(stop, pendingMax);
      return more();
    };
    const take = (segment: Segment) => {
      collective.take(segment);
      return downstream.pendingCount <= pendingMax || !more() ? more() : untilSent();
    };
    collective.launch();
    if (more()) await receiveEach(upstream, take, stop, collective.place);
    // What was sent is used anew by the next operation, and the links may be closed after the last one.
    await downstream.drained(stop);
  });
}

/**
 * Does work that ends when one of `watched` closes while it is needed, or the signal aborts.
 * @throws RingfoldError why that one closed; else what the work throws
 */
export async function untilBroken<Link extends Pick<PeerLinks["downstream"], "closed">>(
  watched: readonly Link[],
  { isNeeded, signal }: { readonly isNeeded: (link: Link) => boolean; readonly signal: AbortSignal },
  work: (stop: AbortSignal) => Promise<void>,
): Promise<void> {
  const stop = new AbortController();
  const onCancel = () => stop.abort(signal.reason);
  const watches = watched.map((link) => ({
    closed: link.closed,
    onClosed: () => {
      if (isNeeded(link)) stop.abort(link.closed.reason);
    },
  }));
  signal.addEventListener("abort", onCancel);
  if (signal.aborted) onCancel();
  for (const { closed, onClosed } of watches) {
    closed.addEventListener("abort", onClosed);
    if (closed.aborted) onClosed();
  }
  try {
    await work(stop.signal);
  } catch (cause) {
    throw stop.signal.reason instanceof RingfoldError ? stop.signal.reason : cause;
  } finally {
    signal.removeEventListener("abort", onCancel);
    for (const { closed, onClosed } of watches) closed.removeEventListener("abort", onClosed);
  }
}
