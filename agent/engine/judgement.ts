import type { Tensor } from "@tensorflow/tfjs";
import { type Aim, countTargets, judge, weighTargets } from "./loss.ts";
import type { BatchResult, EvaluationResult } from "./port.ts";
import type { Runtime } from "./runtime.ts";

/** What the targets of a batch count and weigh. */
export const countsOf = (
  aim: Aim,
  targets: Float32Array,
): Pick<BatchResult, "targetCount" | "lossWeight"> => ({
  targetCount: countTargets(aim.target, targets),
  lossWeight: weighTargets(aim, targets),
});

/**
 * What comes of a batch: computed, read in one transfer, and freed.
 * @param bareOf runs the model, in a tidy
 */
export async function evaluateBatch(
  runtime: Runtime,
  aim: Aim,
  of: { readonly bareOf: () => Tensor; readonly targets: Float32Array; readonly details: boolean },
): Promise<EvaluationResult> {
  const { tf } = runtime;
  const { bareOf, targets, details } = of;
  const judged = tf.tidy(() => ({ ...judge(runtime, aim, bareOf(), targets, details) }));
  const parts = Object.entries(judged as Readonly<Record<string, Tensor>>).map(([name, tensor]) => ({
    ...{ name, tensor, into: new Float32Array(tensor.size) },
  }));
  try {
    await runtime.read(parts);
  } finally {
    tf.dispose(parts.map(({ tensor }) => tensor));
  }
  const { loss, correct, plain, ...told } = Object.fromEntries(parts.map(({ name, into }) => [name, into]));
  return {
    ...{ lossSum: loss![0]!, correctCount: Math.round(correct![0]!), ...countsOf(aim, targets) },
    ...(plain ? { plainLossSum: plain[0]! } : {}),
    ...told,
  };
}
