import type { Clock } from "../protocol/ports.ts";

/** Runs `work` again `intervalMs` after it has ended, so that slow work never piles up. Returns the way to stop. */
export function repeat(clock: Clock, intervalMs: number, work: () => Promise<void>): () => void {
  let cancel = clock.after(intervalMs, function again() {
    void work().finally(() => {
      if (!stopped) cancel = clock.after(intervalMs, again);
    });
  });
  let stopped = false;
  return () => {
    stopped = true;
    cancel();
  };
}

/** `work`, `intervalMs` after the first of the calls since it ran last. */
export function throttled(
  clock: Clock,
  intervalMs: number,
  work: () => void,
): { call: () => void; cancel: () => void } {
  let cancel: (() => void) | undefined;
  return {
    call: () => {
      cancel ??= clock.after(intervalMs, () => {
        cancel = undefined;
        work();
      });
    },
    cancel: () => cancel?.(),
  };
}

/** A way to ask for `work`, which `queue` runs later: calls until it begins are one. */
export function coalesced(queue: (work: () => Promise<void>) => void, work: () => Promise<void>): () => void {
  let isDue = false;
  return () => {
    if (isDue) return;
    isDue = true;
    queue(() => {
      isDue = false;
      return work();
    });
  };
}
