import type { JobSpec } from "../../protocol/job-spec.ts";

/**
 * Where a trial of a sweep pauses by itself, at the same step on each rank: at the first synchronization point that is as
 * far as so many epochs. A vote to pause counts at the end of the round that it rides in, so it is cast one round before.
 */
export class Bound {
  readonly #step: number;
  readonly #roundSteps: number;

  /** @param epochs undefined: none */
  constructor(
    epochs: number | undefined,
    of: { readonly stepsPerEpoch: number; readonly totalSteps: number },
    { synchronization }: Pick<JobSpec, "synchronization">,
  ) {
    const step = Math.max(1, Math.round((epochs ?? Number.POSITIVE_INFINITY) * of.stepsPerEpoch));
    // As far as its last step is no pause.
    this.#step = step < of.totalSteps ? step : Number.POSITIVE_INFINITY;
    this.#roundSteps = synchronization.kind === "every-step" ? 1 : synchronization.everySteps;
  }

  /** Whether the state after `step` steps is there. */
  isReached(step: number): boolean {
    return step >= this.#step;
  }

  /** Whether the round that follows on `step` gets there. */
  isNext(step: number): boolean {
    return step - (step % this.#roundSteps) + this.#roundSteps >= this.#step;
  }
}
