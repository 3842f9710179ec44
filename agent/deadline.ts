import { RingfoldError, toRingfoldError } from "../protocol/errors.ts";
import type { Clock } from "../protocol/ports.ts";

/** A signal that aborts with its parent, or when time is up. Whoever opens it releases it: the timer must not outlive the wait. */
export interface Deadline {
  readonly signal: AbortSignal;
  /** Never negative. */
  remainingMs(): number;
  release(): void;
}

/**
 * `AbortSignal.any([parent, AbortSignal.timeout(ms)])` would do the same, but cannot be released: at a thousand requests
 * a second it leaves ten thousand timers behind. It also reads the real clock.
 * @param options.what names the wait in the error: REQUEST_TIMEOUT "<what>: no answer within <timeoutMs> ms"
 */
export function openDeadline(
  options: { readonly timeoutMs: number; readonly what: string; readonly parent: AbortSignal },
  clock: Clock,
): Deadline {
  const { timeoutMs, what, parent } = options;
  const controller = new AbortController();
  const endsAtMs = clock.monotonicMs() + timeoutMs;
  const followParent = () => controller.abort(parent.reason);
  if (parent.aborted) followParent();
  else parent.addEventListener("abort", followParent, { once: true });
  const cancelTimer = clock.after(timeoutMs, () =>
    controller.abort(
      new RingfoldError("REQUEST_TIMEOUT", `${what}: no answer within ${Math.round(timeoutMs)} ms`, {
        timeoutMs,
      }),
    ),
  );
  return {
    signal: controller.signal,
    remainingMs: () => Math.max(0, endsAtMs - clock.monotonicMs()),
    release: () => {
      cancelTimer();
      parent.removeEventListener("abort", followParent);
    },
  };
}

/** Why the signal aborted, as one of our errors: REQUEST_TIMEOUT from a deadline, CANCELLED from a caller who left. */
export const abortError = (signal: AbortSignal): RingfoldError => toRingfoldError(signal.reason, "CANCELLED");

/** Waits for `work` or the abort, whichever is first. The work itself goes on; its late failure is not lost but ignored. */
export async function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) {
    work.catch(() => undefined);
    throw abortError(signal);
  }
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(abortError(signal));
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
