import { pause } from "../../protocol/pause.ts";
import type { Clock } from "../../protocol/ports.ts";
import type { ReadyProcess } from "../local-cluster/ready-process.ts";

type Kept = Pick<ReadyProcess<unknown>, "ended" | "stop">;

const firstPauseMs = 1_000;
const pauseMsMax = 30_000;
/** One that has run for so long ends for a new reason. */
const steadyMs = 60_000;

/**
 * Starts a process again when it ends by itself, after a pause that doubles while it does not stay up; stops it when `signal`
 * aborts, and then returns.
 * @param first runs already
 * @param onEnded told before each pause, with what a start has failed by
 */
export async function keepRunning(
  first: Kept,
  options: {
    readonly start: () => Promise<Kept>;
    readonly onEnded: (pauseMs: number, failure?: unknown) => void;
    readonly clock: Clock;
    readonly signal: AbortSignal;
  },
): Promise<void> {
  const { start, onEnded, clock, signal } = options;
  const stopped = new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener("abort", () => resolve(), { once: true });
  });
  let running: Kept | undefined = first;
  let startedAtMs = clock.monotonicMs();
  let failure: unknown;
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(2 * pauseMs, pauseMsMax)) {
    if (running) await Promise.race([running.ended, stopped]);
    if (signal.aborted) break;
    if (clock.monotonicMs() - startedAtMs >= steadyMs) pauseMs = firstPauseMs;
    onEnded(pauseMs, failure);
    await pause(clock, pauseMs, signal).catch(() => undefined);
    if (signal.aborted) break;
    startedAtMs = clock.monotonicMs();
    failure = undefined;
    running = await start().catch((cause: unknown) => {
      failure = cause;
      return undefined;
    });
  }
  await running?.stop();
}
