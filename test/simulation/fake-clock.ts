import type { Clock } from "../../protocol/ports.ts";

/** Time that moves only when told. */
export class FakeClock implements Clock {
  #nowMs: number;
  /** By how much the wall clock was set since the beginning. */
  #setMs = 0;
  #timers: { readonly atMs: number; readonly callback: () => void }[] = [];

  constructor(startMs = 1_000_000) {
    this.#nowMs = startMs;
  }

  nowMs(): number {
    return this.#nowMs + this.#setMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  /** Somebody sets the wall clock. */
  set(byMs: number): void {
    this.#setMs += byMs;
  }

  /** The process stands still: time passes, and its timers run late. */
  stall(durationMs: number): void {
    this.#nowMs += durationMs;
  }

  after(delayMs: number, callback: () => void): () => void {
    const timer = { atMs: this.#nowMs + delayMs, callback };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  /** Timers that are set and neither ran nor were cancelled: zero when nothing leaks. */
  get pendingTimers(): number {
    return this.#timers.length;
  }

  /** Moves time on and runs what falls due, in order, with everything that follows from it in microtasks. */
  async advance(durationMs: number): Promise<void> {
    const endMs = this.#nowMs + durationMs;
    await settle();
    for (;;) {
      const due = this.#timers.filter(({ atMs }) => atMs <= endMs).toSorted((a, b) => a.atMs - b.atMs)[0];
      if (due === undefined) break;
      this.#timers = this.#timers.filter((timer) => timer !== due);
      this.#nowMs = Math.max(this.#nowMs, due.atMs);
      due.callback();
      await settle();
    }
    this.#nowMs = endMs;
  }
}

/** Lets every promise that can settle without time or I/O do so. */
export const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
