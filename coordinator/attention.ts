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
  #pulsedMs: number;
  #pausedMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Pick<Clock, "monotonicMs">) {
    this.#clock = clock;
    this.#attendedMs = clock.monotonicMs();
    this.#pulsedMs = this.#attendedMs;
  }

  /** To be called twice a second, whatever else is to be done: when that was not so, this process stood still. */
  pulse(): void {
    const nowMs = this.#clock.monotonicMs();
    if (nowMs - this.#pulsedMs > limits.attentionMs) this.#pausedMs = nowMs;
    this.#pulsedMs = nowMs;
  }

  /** This process stood still a moment ago: sockets that close now were given up by peers who did not hear from us. */
  get wasPaused(): boolean {
    const nowMs = this.#clock.monotonicMs();
    return nowMs - this.#pulsedMs > limits.attentionMs || nowMs - this.#pausedMs < limits.gatheringMs;
  }

  nowMs(): number {
    return this.#heardUntilMs() - this.#missedMs;
  }

  /** A look. */
  attend(): void {
    this.pulse();
    const nowMs = this.#clock.monotonicMs();
    this.#missedMs += nowMs - this.#heardUntilMs();
    this.#attendedMs = nowMs;
  }

  #heardUntilMs(): number {
    return Math.min(this.#clock.monotonicMs(), this.#attendedMs + limits.attentionMs);
  }
}
