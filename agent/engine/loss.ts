import type { Scalar, Tensor, Tensor1D, Tensor2D } from "@tensorflow/tfjs";
import { type Target, targetLength } from "../../protocol/data-schema.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import { isPlain, type Objective } from "../../protocol/objective.ts";
import type { Runtime } from "./runtime.ts";

/** What is to be predicted, and what is minimised for it. */
export interface Aim {
  readonly target: Target;
  readonly objective: Objective;
}

/** Of a batch, as tensors of the running tidy. */
export interface Loss {
  /** Sum over the targets that count, each times its weight. */
  readonly loss: Tensor;
  /** How many were predicted right; 0 where the target is a number. */
  readonly correct: Tensor;
}

/** What an evaluation wants beside it. */
interface Judgement extends Loss {
  /** The sum of the loss without weights and smoothing, or of the squared errors, where that is another one. */
  readonly plain?: Tensor;
  /** f32 [batch]: what ranks the examples, where the target is binary; what is said, where it is a number. */
  readonly scores?: Tensor;
  /** f32 [targets] of classes: the likeliest class, and how many are likelier than the label. */
  readonly predicted?: Tensor;
  readonly labelRanks?: Tensor;
}

/** Targets of a batch that count: a negative class is padding, or unknown. */
export function countTargets(target: Target, targets: Float32Array): number {
  if (target.kind === "number") return targets.length;
  return targets.reduce((count, label) => (label >= 0 ? count + 1 : count), 0);
}

/** By what a sum of losses is divided to be their mean: the number of targets that count, or the sum of their weights. */
export function weighTargets({ target, objective }: Aim, targets: Float32Array): number {
  const weightOf = weightsOf(objective);
  if (!weightOf) return countTargets(target, targets);
  return targets.reduce((sum, label) => (label >= 0 ? sum + weightOf(label) : sum), 0);
}

/** As f32, in which the engines compute. Undefined where each weighs 1. */
function weightsOf(objective: Objective): ((label: number) => number) | undefined {
  if (objective.kind === "cross-entropy") {
    const weights = objective.classWeights && Float32Array.from(objective.classWeights);
    return weights && ((label) => weights[label]!);
  }
  if (objective.kind !== "binary-cross-entropy" || objective.positiveWeight === 1) return undefined;
  const positive = Math.fround(objective.positiveWeight);
  return (label) => (label > 0.5 ? positive : 1);
}

/**
 * @param bare what the model puts out, without the softmax or sigmoid at its end
 * @param targets of the batch, f32 [batch · target length]
 */
export function lossOf(runtime: Runtime, aim: Aim, bare: Tensor, targets: Float32Array): Loss {
  const { tf } = runtime;
  const { target, objective } = aim;
  switch (target.kind) {
    case "class":
    case "tokens":
      return crossEntropy(runtime, target.classCount, objective, bare, targets);
    case "binary":
      return binaryCrossEntropy(runtime, objective, bare, targets);
    case "number":
      return {
        loss: regressionLoss(runtime, objective, errorsOf(runtime, bare, targets)),
        correct: tf.scalar(0),
      };
  }
}

/**
 * The same with what metrics are made of.
 * @param details also what is said of each target of classes, and of numbers
 */
export function judge(
  runtime: Runtime,
  aim: Aim,
  bare: Tensor,
  targets: Float32Array,
  details: boolean,
): Judgement {
  const { target, objective } = aim;
  const plain = (): Tensor => {
    if (target.kind !== "number")
      return lossOf(runtime, { target, objective: plainOf(objective) }, bare, targets).loss;
    return regressionLoss(runtime, { kind: "mse" }, errorsOf(runtime, bare, targets));
  };
  return {
    ...lossOf(runtime, aim, bare, targets),
    ...(isPlain(objective) ? {} : { plain: plain() }),
    ...(target.kind === "binary" || (target.kind === "number" && details)
      ? { scores: runtime.tf.reshape(bare, [-1]) }
      : {}),
    ...("classCount" in target && details ? rankLabels(runtime, target.classCount, bare, targets) : {}),
  };
}

const plainOf = ({ kind }: Objective): Objective =>
  kind === "cross-entropy"
    ? { kind, labelSmoothing: 0 }
    : { kind: "binary-cross-entropy", positiveWeight: 1 };

function crossEntropy(
  { tf, operations }: Runtime,
  classCount: number,
  objective: Objective,
  bare: Tensor,
  targets: Float32Array,
): Loss {
  const logits = tf.reshape(bare, [-1, classCount]) as Tensor2D;
  const labels = tf.tensor1d(Int32Array.from(targets), "int32");
  if (objective.kind !== "cross-entropy" || isPlain(objective))
    return operations.crossEntropy(logits, labels);
  const { labelSmoothing } = objective;
  const weightOf = weightsOf(objective) ?? (() => 1);
  const weights = tf.tensor1d(targets.map((label) => (label >= 0 ? weightOf(label) : 0)));
  // A label outside the classes gives a row of zeros, and weighs nothing.
  const truth = tf.oneHot(labels, classCount);
  const wanted = tf.add(tf.mul(truth, 1 - labelSmoothing), labelSmoothing / classCount);
  const losses = tf.neg(tf.sum(tf.mul(wanted, tf.logSoftmax(logits)), 1));
  const hits = tf.equal(tf.argMax<Tensor1D>(logits, 1), labels);
  return { loss: tf.sum<Scalar>(tf.mul(losses, weights)), correct: tf.sum(tf.cast(hits, "float32")) };
}

/** log(1 + e^z) - y z: the cross-entropy of sigmoid(z), without its overflow. */
function binaryCrossEntropy(
  { tf }: Runtime,
  objective: Objective,
  bare: Tensor,
  targets: Float32Array,
): Loss {
  const z = tf.reshape(bare, [-1]) as Tensor1D;
  const y = tf.tensor1d(targets);
  const counts = tf.tensor1d(targets.map((label) => (label >= 0 ? 1 : 0)));
  const weightOf = weightsOf(objective);
  const weights = weightOf ? tf.tensor1d(targets.map((label) => (label >= 0 ? weightOf(label) : 0))) : counts;
  const losses = tf.sub(tf.softplus(z), tf.mul(y, z));
  const hits = tf.cast(tf.equal(tf.greater(z, 0), tf.greater(y, 0.5)), "float32");
  return { loss: tf.sum<Scalar>(tf.mul(losses, weights)), correct: tf.sum(tf.mul(hits, counts)) };
}

const errorsOf = ({ tf }: Runtime, bare: Tensor, targets: Float32Array): Tensor =>
  tf.sub(tf.reshape(bare, [-1]), tf.tensor1d(targets));

function regressionLoss({ tf }: Runtime, objective: Objective, errors: Tensor): Tensor {
  if (objective.kind === "mae") return tf.sum(tf.abs(errors));
  if (objective.kind !== "huber") return tf.sum(tf.mul(errors, errors));
  // ½q² + δ(|e| - q) with q = min(|e|, δ). Source: Huber, "Robust estimation of a location parameter", 1964.
  const sizes = tf.abs(errors);
  const inner = tf.minimum(sizes, objective.delta);
  const outer = tf.mul(tf.sub(sizes, inner), objective.delta);
  return tf.sum(tf.add(tf.mul(tf.mul(inner, inner), 0.5), outer));
}

/** Of equal scores the first class is the likelier one, as argMax has it. A score that is no number is behind all others. */
function rankLabels(
  { tf }: Runtime,
  classCount: number,
  bare: Tensor,
  targets: Float32Array,
): { readonly predicted: Tensor; readonly labelRanks: Tensor } {
  const logits = tf.reshape(bare, [-1, classCount]) as Tensor2D;
  const labels = tf.tensor1d(Int32Array.from(targets), "int32");
  const own = tf.sum(tf.mul(logits, tf.oneHot(labels, classCount)), 1, true);
  const isLater = tf.greaterEqual(
    tf.reshape(tf.range(0, classCount, 1, "int32"), [1, -1]),
    tf.reshape(labels, [-1, 1]),
  );
  const isBehind = tf.logicalOr(tf.less(logits, own), tf.logicalAnd(tf.equal(logits, own), isLater));
  const behind = tf.sum(tf.cast(isBehind, "float32"), 1);
  return { predicted: tf.cast(tf.argMax(logits, 1), "float32"), labelRanks: tf.sub(classCount, behind) };
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
