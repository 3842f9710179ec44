import type { Clock } from "../protocol/ports.ts";

/**
 * The time of one term: it begins with what the wall clock shows and runs evenly from there, whatever becomes of that clock.
 * By it are measured all waits that decisions depend on, those too that are written into records; what an earlier term has
 * written was measured by the clock of another machine, perhaps, and counts from the beginning of this one.
 */
export class TermTime {
  readonly #clock: Pick<Clock, "monotonicMs">;
  readonly #offsetMs: number;
  readonly startedAtMs: number;

  constructor(clock: Pick<Clock, "nowMs" | "monotonicMs">) {
    this.#clock = clock;
    this.startedAtMs = clock.nowMs();
    this.#offsetMs = this.startedAtMs - clock.monotonicMs();
  }

  nowMs(): number {
    return Math.floor(this.#clock.monotonicMs() + this.#offsetMs);
  }

  sinceStartMs(): number {
    return this.nowMs() - this.startedAtMs;
  }
}
