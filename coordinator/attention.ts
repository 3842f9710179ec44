import { limits } from "../protocol/limits.ts";
import type { Clock } from "../protocol/ports.ts";

/**
 * Time in which the coordinator could hear its peers. It looks at them twice a second; where it did not come to that for
 * longer (its machine was paused, its disk was slow, its event loop stood still), the silence of that time was its own.
 */
export class Attention {
  readonly #clock: Pick<Clock, "monotonicMs">;
  #attendedMs: number;
  #missedMs = 0;

  constructor(clock: Pick<Clock, "monotonicMs">) {
    this.#clock = clock;
    this.#attendedMs = clock.monotonicMs();
  }

  nowMs(): number {
    return this.#heardUntilMs() - this.#missedMs;
  }

  /** A look. */
  attend(): void {
    const nowMs = this.#clock.monotonicMs();
    this.#missedMs += nowMs - this.#heardUntilMs();
    this.#attendedMs = nowMs;
  }

  #heardUntilMs(): number {
    return Math.min(this.#clock.monotonicMs(), this.#attendedMs + limits.attentionMs);
  }
}
