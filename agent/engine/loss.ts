import type { Scalar, Tensor, Tensor1D, Tensor2D } from "@tensorflow/tfjs";
import { type Target, targetLength } from "../../protocol/data-schema.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import type { Runtime } from "./runtime.ts";

/** Of a batch, as tensors of the running tidy. */
export interface Loss {
  /** Sum over the targets that count. */
  readonly loss: Tensor;
  /** How many were predicted right; 0 where the target is a number. */
  readonly correct: Tensor;
  /** f32 [batch], where the target is binary: what ranks the examples. */
  readonly scores: Tensor | undefined;
}

/** Targets of a batch that count: a negative class is padding, or unknown. */
export function countTargets(target: Target, targets: Float32Array): number {
  if (target.kind === "number") return targets.length;
  return targets.reduce((count, label) => (label >= 0 ? count + 1 : count), 0);
}

/**
 * @param bare what the model puts out, without the softmax or sigmoid at its end
 * @param targets of the batch, f32 [batch · target length]
 */
export function lossOf(runtime: Runtime, target: Target, bare: Tensor, targets: Float32Array): Loss {
  const { tf } = runtime;
  switch (target.kind) {
    case "class":
    case "tokens":
      return { ...crossEntropy(runtime, target.classCount, bare, targets), scores: undefined };
    case "binary":
      return binaryCrossEntropy(runtime, bare, targets);
    case "number": {
      const error = tf.sub(tf.reshape(bare, [-1]), tf.tensor1d(targets));
      return { loss: tf.sum(tf.mul(error, error)), correct: tf.scalar(0), scores: undefined };
    }
  }
}

function crossEntropy(runtime: Runtime, classCount: number, bare: Tensor, targets: Float32Array) {
  const { tf, operations } = runtime;
  const logits = tf.reshape(bare, [-1, classCount]) as Tensor2D;
  return operations.crossEntropy(logits, tf.tensor1d(Int32Array.from(targets), "int32") as Tensor1D);
}

/** log(1 + e^z) - y z: the cross-entropy of sigmoid(z), without its overflow. */
function binaryCrossEntropy({ tf }: Runtime, bare: Tensor, targets: Float32Array): Loss {
  const z = tf.reshape(bare, [-1]) as Tensor1D;
  const y = tf.tensor1d(targets);
  const counts = tf.tensor1d(targets.map((label) => (label >= 0 ? 1 : 0)));
  const losses = tf.sub(tf.softplus(z), tf.mul(y, z));
  const hits = tf.cast(tf.equal(tf.greater(z, 0), tf.greater(y, 0.5)), "float32");
  return {
    loss: tf.sum<Scalar>(tf.mul(losses, counts)),
    correct: tf.sum(tf.mul(hits, counts)),
    scores: z,
  };
}

/** @throws RingfoldError DATA_INVALID naming the first target that the model cannot have */
export function checkTargets(target: Target, targets: Float32Array): void {
  const length = targetLength(target);
  const isNumber = target.kind === "number";
  const classCount = target.kind === "class" || target.kind === "tokens" ? target.classCount : 2;
  for (let i = 0; i < targets.length; i++) {
    const value = targets[i]!;
    if (isNumber ? Number.isFinite(value) : value === -1 || isClass(value, classCount)) continue;
    const at = `of example ${Math.floor(i / length)} of a batch`;
    if (isNumber)
      throw new RingfoldError("DATA_INVALID", `target ${value} ${at} is not finite`, { target: value });
    const message = `label ${value} ${at} is not a class: there are ${classCount}`;
    throw new RingfoldError("DATA_INVALID", message, { label: value, classCount });
  }
}

const isClass = (value: number, classCount: number): boolean =>
  value >= 0 && value < classCount && Number.isInteger(value);
