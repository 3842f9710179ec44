import { once } from "node:events";
import { RingfoldError } from "../../protocol/errors.ts";
import { saysNobodyAnswers } from "./etcd-client.ts";
import type { Leadership } from "./etcd-leadership.ts";

/**
 * One of several coordinators, until `signal` aborts: stands by, leads when its turn comes, and stands by again when it has
 * lost its lease.
 * @throws what `standBy` throws, and `open` where another turn would end alike
 */
export async function leadInTurns({
  standBy,
  open,
  onDeposed,
  signal,
}: {
  /** Undefined when there will be no turn. */
  readonly standBy: () => Promise<Leadership | undefined>;
  readonly open: (leadership: Leadership) => Promise<{ close(): Promise<void> }>;
  /** A turn is over, or could not be begun. */
  readonly onDeposed: () => void;
  readonly signal: AbortSignal;
}): Promise<void> {
  while (!signal.aborted) {
    const leadership = await standBy();
    if (!leadership) return;
    try {
      const running = await open(leadership);
      const over = AbortSignal.any([leadership.lost, signal]);
      if (!over.aborted) await once(over, "abort");
      await running.close();
    } catch (cause) {
      if (!isPassing(cause, leadership)) throw cause;
    } finally {
      await leadership.resign();
    }
    if (!signal.aborted) onDeposed();
  }
}

/** Whether another turn may go well: the lease was lost meanwhile, or etcd did not answer while the state was read. */
function isPassing(cause: unknown, { lost }: Leadership): boolean {
  if (!(cause instanceof RingfoldError)) return lost.aborted;
  if (cause.code === "CONFIG_INVALID") return false;
  return lost.aborted || saysNobodyAnswers(cause);
}
