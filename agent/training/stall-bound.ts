import { limits } from "../../protocol/limits.ts";

const recentMax = 32;

/**
 * How long a rank waits for a neighbour before it calls it stalled: derived from the steps that it has seen, so that
 * nobody has to set it. A step is as long as its slowest rank, so several times that is beyond what work can explain.
 * The slowest tenth does not count: one step beside a saved checkpoint says nothing about the next.
 */
export class StallBound {
  readonly #recentMs: number[] = [];
  #stepMs: number | null = null;
  #leastMs = 0;

  /** A step that may wait for data says nothing of usual steps, and nobody counts as stalled in it as soon as usual. */
  allowWait(mayWait: boolean, ring: { set hopTimeoutMs(timeoutMs: number) }): void {
    const leastMs = mayWait ? limits.dataWaitTimeoutMs : 0;
    if (leastMs === this.#leastMs) return;
    this.#leastMs = leastMs;
    ring.hopTimeoutMs = this.boundMs;
  }

  observe(stepMs: number): void {
    if (this.#leastMs > 0) return;
    this.#recentMs.push(stepMs);
    if (this.#recentMs.length > recentMax) this.#recentMs.shift();
    const sorted = this.#recentMs.toSorted((a, b) => a - b);
    this.#stepMs = sorted[Math.floor(0.9 * (sorted.length - 1))]!;
  }

  /** The 90th percentile of the last steps; null before the first. */
  get stepMs(): number | null {
    return this.#stepMs;
  }

  /** Before anything was seen a step may be anything: compilers and caches are cold, and the model may be large. */
  get boundMs(): number {
    const { stepMs } = this;
    if (stepMs === null) return limits.firstStepTimeoutMs;
    return Math.max(this.#leastMs, limits.stallMsMin, limits.stallSteps * stepMs);
  }
}
