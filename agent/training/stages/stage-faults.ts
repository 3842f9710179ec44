import { RingfoldError } from "../../../protocol/errors.ts";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import { limits } from "../../../protocol/limits.ts";
import type { Fault } from "../finite-guard.ts";

/**
 * NaN and infinity in a model of several stages. A rank that finds them in its own numbers sends zeros and a vote; as the
 * votes of all stages are known to every rank, all decide the same: stop, or leave the step out.
 */
export class StageFaults {
  readonly #policy: JobSpec["nonFinite"];
  /** Since this generation began, so that it is the same on every rank. */
  #skippedInRow = 0;
  /** Since this trainer started. */
  skippedCount = 0;

  constructor(policy: JobSpec["nonFinite"]) {
    this.#policy = policy;
  }

  begin(): void {
    this.#skippedInRow = 0;
  }

  /**
   * @param votes by stage
   * @returns why the step is to be left out, or undefined
   * @throws RingfoldError NOT_FINITE by the policy, or after too many in a row
   */
  judge(votes: ArrayLike<number>, step: number): Fault | undefined {
    // A stage hands on what it got: the first one along the way is where it began, or the last, with the loss.
    const stage = Array.from(votes).findIndex((count) => count > 0);
    if (stage === -1) {
      this.#skippedInRow = 0;
      return undefined;
    }
    const parameter = `stage ${stage}`;
    const message = `the gradient of ${parameter} is not finite at step ${step}`;
    const data = { stage, step };
    if (this.#policy === "stop") throw new RingfoldError("NOT_FINITE", message, data);
    this.skippedCount++;
    if (++this.#skippedInRow > limits.skippedInRowMax) {
      const detail = `${message}, and ${limits.skippedInRowMax} updates before it were skipped`;
      throw new RingfoldError("NOT_FINITE", detail, data);
    }
    return { rank: null, parameter, step, message };
  }
}

/** The sum of finite f32 is finite as a double. Cost: one addition an element. */
export function areFinite(values: Float32Array): boolean {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]!;
  return Number.isFinite(sum);
}
