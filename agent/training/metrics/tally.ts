import assert from "node:assert";
import type { EvaluationResult } from "../../engine/port.ts";
import type { TallyPlan } from "./asked.ts";

/** What a rank has counted of its share of the held-out set, as it travels: f64, exact for counts below 2^53. */
export class Tally {
  readonly sums: Float64Array;
  readonly #plan: TallyPlan;

  constructor(plan: TallyPlan) {
    this.#plan = plan;
    this.sums = new Float64Array(lengthOf(plan));
  }

  /** @param targets of the batch; a negative class counts nowhere */
  add({ predicted, scores, labelRanks }: EvaluationResult, targets: Float32Array): void {
    if (this.#plan.kind === "numbers") return this.#addNumbers(scores!, targets);
    // Of 0 and 1 the score says which.
    const answers = predicted ?? scores!.map((score) => (score > 0 ? 1 : 0));
    for (let i = 0; i < targets.length; i++) {
      if (targets[i]! >= 0) this.#addAnswer(targets[i]!, answers[i]!, labelRanks?.[i]);
    }
  }

  #addAnswer(label: number, answer: number, labelRank: number | undefined): void {
    const { sums } = this;
    const { classCount, counts, topK } = this.#plan as Extract<TallyPlan, { kind: "classes" }>;
    if (counts === "matrix") sums[label * classCount + answer]!++;
    if (counts === "margins") {
      if (label === answer) sums[label]!++;
      sums[classCount + label]!++;
      sums[2 * classCount + answer]!++;
    }
    const first = sums.length - topK.length - 1;
    for (const [at, k] of topK.entries()) if (labelRank! < k) sums[first + at]!++;
    sums[sums.length - 1]!++;
  }

  /** Source: Welford, "Note on a method for calculating corrected sums of squares", 1962. */
  #addNumbers(said: Float32Array, targets: Float32Array): void {
    const { sums } = this;
    for (let i = 0; i < targets.length; i++) {
      const target = targets[i]!;
      const error = said[i]! - target;
      sums[numbers.absoluteErrors]! += Math.abs(error);
      sums[numbers.squaredErrors]! += error * error;
      const count = ++sums[numbers.count]!;
      const before = target - sums[numbers.mean]!;
      sums[numbers.mean]! += before / count;
      sums[numbers.squaredDeviations]! += before * (target - sums[numbers.mean]!);
    }
  }
}

/** Places of the sums over numbers; the deviations are from the mean of the targets. */
export const numbers = {
  ...{ count: 0, mean: 1, squaredDeviations: 2, absoluteErrors: 3, squaredErrors: 4 },
  length: 5,
} as const;

export function lengthOf(plan: TallyPlan): number {
  if (plan.kind === "numbers") return numbers.length;
  const { classCount, counts, topK } = plan;
  const counters = { matrix: classCount ** 2, margins: 3 * classCount, none: 0 }[counts];
  return counters + topK.length + 1;
}

/**
 * One tally of all, as if one rank had counted, whatever the shares. Every rank merges in the order of ranks, and so comes to
 * the same bits.
 * Source: Chan, Golub & LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
 */
export function mergeTallies(plan: TallyPlan, parts: readonly Float64Array[]): Float64Array {
  const all = new Float64Array(lengthOf(plan));
  for (const part of parts) {
    assert.equal(part.length, all.length, "ranks count the same");
    if (plan.kind === "classes") {
      for (let i = 0; i < all.length; i++) all[i]! += part[i]!;
    } else if (part[numbers.count]! > 0) mergeNumbers(all, part);
  }
  return all;
}

function mergeNumbers(all: Float64Array, part: Float64Array): void {
  const [n, m] = [all[numbers.count]!, part[numbers.count]!];
  const apart = part[numbers.mean]! - all[numbers.mean]!;
  all[numbers.mean]! += (apart * m) / (n + m);
  all[numbers.squaredDeviations]! += part[numbers.squaredDeviations]! + (apart ** 2 * n * m) / (n + m);
  for (const place of [numbers.count, numbers.absoluteErrors, numbers.squaredErrors])
    all[place]! += part[place]!;
}
