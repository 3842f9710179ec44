import { z } from "zod";
import type { Target } from "./data-schema.ts";
import { RingfoldError } from "./errors.ts";
import {
  type AskedMetric,
  metricSchema,
  metricsOfTarget,
  tableClassesMax,
  targetsOf,
  topKOf,
} from "./metric.ts";

/** What a job minimises, and what it is judged by: `loss`, `metrics` and `evaluation.metric` of a job file. */

/** A vocabulary with a weight for each token is still a short file. */
const weightsMax = 4_096;
/** f32 sums of weighted losses stay far from its bounds. */
const weightSchema = z.number().min(0).max(1e6);
const balanced = z.literal("balanced");

const crossEntropySchema = z.strictObject({
  kind: z.literal("cross-entropy"),
  /** One a class; `balanced` makes them by the classes' shares of the training examples. */
  classWeights: z
    .union([
      balanced,
      z
        .array(weightSchema)
        .min(2)
        .max(weightsMax)
        .refine((weights) => weights.some((weight) => weight > 0), "one weight at least is more than 0"),
    ])
    .optional(),
  /** Source: Szegedy et al., "Rethinking the Inception architecture", 2016, section 7. */
  labelSmoothing: z.number().min(0).lt(1).default(0),
});
const binarySchema = z.strictObject({
  kind: z.literal("binary-cross-entropy"),
  /** Of the examples of 1; `balanced`: as many as there are of 0 for each of them. */
  positiveWeight: z.union([balanced, weightSchema.positive()]).optional(),
});
const huberSchema = z.strictObject({
  kind: z.literal("huber"),
  /** Where the square goes over into a line. */
  delta: z.number().positive().max(1e6).default(1),
});
export const lossSpecSchema = z.discriminatedUnion("kind", [
  crossEntropySchema,
  binarySchema,
  z.strictObject({ kind: z.literal("mse") }),
  z.strictObject({ kind: z.literal("mae") }),
  huberSchema,
]);
export type LossSpec = z.infer<typeof lossSpecSchema>;

/** A loss with its weights as numbers: what an engine computes. */
export type Objective =
  | {
      readonly kind: "cross-entropy";
      readonly classWeights?: readonly number[];
      readonly labelSmoothing: number;
    }
  | { readonly kind: "binary-cross-entropy"; readonly positiveWeight: number }
  | { readonly kind: "mse" }
  | { readonly kind: "mae" }
  | { readonly kind: "huber"; readonly delta: number };

/** What is minimised unless a job says otherwise. */
export function plainObjective({ kind }: Pick<Target, "kind">): Objective {
  switch (kind) {
    case "class":
    case "tokens":
      return { kind: "cross-entropy", labelSmoothing: 0 };
    case "binary":
      return { kind: "binary-cross-entropy", positiveWeight: 1 };
    case "number":
      return { kind: "mse" };
  }
}

/** Without weights and smoothing: what accuracy's and perplexity's own loss is. */
export function isPlain(objective: Objective): boolean {
  switch (objective.kind) {
    case "cross-entropy":
      return objective.classWeights === undefined && objective.labelSmoothing === 0;
    case "binary-cross-entropy":
      return objective.positiveWeight === 1;
    case "mse":
      return true;
    case "mae":
    case "huber":
      return false;
  }
}

/**
 * @param classCounts of the training examples, where they are known; every rank has the same
 * @throws RingfoldError JOB_INVALID where `balanced` has nothing to go by
 */
export function objectiveOf(
  loss: LossSpec | undefined,
  target: Target,
  classCounts: readonly number[] | undefined,
): Objective {
  if (!loss) return plainObjective(target);
  const counts = () => {
    if (classCounts) return classCounts;
    throw unfit(
      "loss",
      "balanced needs the number of examples of each class, which this data does not tell",
      "Give the weights as numbers.",
    );
  };
  switch (loss.kind) {
    case "cross-entropy": {
      const { kind, classWeights, labelSmoothing } = loss;
      if (classWeights === undefined) return { kind, labelSmoothing };
      return {
        kind,
        labelSmoothing,
        classWeights: classWeights === "balanced" ? balancedWeights(counts()) : classWeights,
      };
    }
    case "binary-cross-entropy": {
      const { kind, positiveWeight = 1 } = loss;
      if (positiveWeight !== "balanced") return { kind, positiveWeight };
      const [zeros = 0, ones = 0] = counts();
      return { kind, positiveWeight: zeros > 0 && ones > 0 ? zeros / ones : 1 };
    }
    default:
      return loss;
  }
}

/**
 * Every class weighs as much as any other, all together as much as there are examples. One without examples weighs 1.
 * Source: King & Zeng, "Logistic regression in rare events data", 2001; scikit-learn's `balanced`.
 */
function balancedWeights(counts: readonly number[]): number[] {
  const present = counts.filter((count) => count > 0);
  const all = present.reduce((sum, count) => sum + count, 0);
  return counts.map((count) => (count > 0 ? all / (present.length * count) : 1));
}

/** Of data that only agents can read it is known that they are classes, and not how many. */
export type KnownTarget = Target | { readonly kind: "class"; readonly classCount?: undefined };

/**
 * Whether a job's loss and metrics are such as its data can have.
 * @throws RingfoldError JOB_INVALID, naming the key and what to write instead
 */
export function checkObjective(
  spec: {
    readonly loss?: LossSpec | undefined;
    readonly metrics?: readonly AskedMetric[] | undefined;
    readonly evaluation?: { readonly metric: AskedMetric } | undefined;
  },
  target: KnownTarget,
): void {
  if (spec.loss) checkLoss(spec.loss, target);
  for (const metric of spec.metrics ?? []) checkMetric("metrics", metric, target);
  if (spec.evaluation) checkMetric("evaluation.metric", spec.evaluation.metric, target);
}

function checkLoss(loss: LossSpec, target: KnownTarget): void {
  const expected = {
    class: "cross-entropy",
    tokens: "cross-entropy",
    binary: "binary-cross-entropy",
    number: "mse, mae or huber",
  }[target.kind];
  if (!expected.split(/, | or /).includes(loss.kind)) {
    const message = `${loss.kind} is no loss of targets of the kind ${target.kind}, as this data has`;
    throw unfit("loss.kind", message, `Take ${expected}, or leave loss out.`);
  }
  if (loss.kind !== "cross-entropy" || loss.classWeights === undefined) return;
  if (loss.classWeights === "balanced") {
    if (target.kind !== "tokens") return;
    throw unfit(
      "loss.classWeights",
      "balanced is for one class an example, and this data has tokens",
      "Give a weight for each token as a list.",
    );
  }
  const classCount = "classCount" in target ? target.classCount : undefined;
  const { length } = loss.classWeights;
  if (classCount === undefined || length === classCount) return;
  throw unfit(
    "loss.classWeights",
    `${length} weights, and the data has ${classCount} classes`,
    `Give ${classCount} weights, in the order of the classes, or balanced.`,
  );
}

/** @param key of the job file, or of the sweep's */
export function checkMetric(key: string, metric: AskedMetric, target: KnownTarget): void {
  const kinds = targetsOf(metric);
  if (!kinds.includes(target.kind)) {
    const message = `${metric} is of targets of the kind ${kinds.join(" or ")}, and those of this data are ${target.kind}`;
    // Tables are asked for, and nothing is compared by them.
    const all = metricsOfTarget(target.kind).filter(
      (name) => key === "metrics" || metricSchema.safeParse(name).success,
    );
    throw unfit(key, message, `Take one of ${all.join(", ")}.`);
  }
  const classCount = "classCount" in target ? target.classCount : undefined;
  if (classCount === undefined) return;
  const k = topKOf(metric);
  if (k !== undefined && k >= classCount)
    throw unfit(key, `${metric} of ${classCount} classes is always 1`, `Take a k below ${classCount}.`);
  if ((metric === "per-class" || metric === "confusion-matrix") && classCount > tableClassesMax) {
    const message = `${metric} is for ${tableClassesMax} classes at most, and this data has ${classCount}`;
    throw unfit(key, message, "Take macro-precision, macro-recall or macro-f1.");
  }
}

const unfit = (key: string, message: string, remedy: string): RingfoldError =>
  new RingfoldError("JOB_INVALID", `${key}: ${message}`, { key, remedy });
