import { z } from "zod";
import type { Target } from "./data-schema.ts";

/** What is said of the held-out set, and which of it a kind of target has. */

const named = [
  ...["loss", "accuracy", "macro-precision", "macro-recall", "macro-f1"],
  ...["precision", "recall", "f1", "auc", "perplexity", "mae", "rmse", "r2"],
] as const;
const topKMax = 100;
const topKSchema = z
  .templateLiteral(["top-", z.number().int(), "-accuracy"])
  .refine((name) => (topKOf(name) ?? 0) >= 2 && topKOf(name)! <= topKMax, `k is from 2 to ${topKMax}`);

/** One number: what states of a job, and trials of a sweep, are compared by. */
export const metricSchema = z.union([z.enum(named), topKSchema], {
  error: () => `must be one of ${[...named, "top-5-accuracy"].join(", ")}`,
});
export type Metric = z.infer<typeof metricSchema>;

/** More than a number; told at the end of a job alone. */
const tableSchema = z.enum(["per-class", "confusion-matrix"]);
/** Classes of a table at most: people read it, and a version holds it. */
export const tableClassesMax = 100;

/** What a job may ask for beside what it is told anyway. */
export const askedMetricSchema = z.union([metricSchema, tableSchema], {
  error: () => `must be one of ${[...named.slice(1), "top-5-accuracy", ...tableSchema.options].join(", ")}`,
});
export type AskedMetric = z.infer<typeof askedMetricSchema>;

const ofClasses = ["class", "tokens"] as const;
const ofLabels = [...ofClasses, "binary"] as const;
const kindsOf: Readonly<Record<string, readonly Target["kind"][]>> = {
  ...{
    loss: [...ofLabels, "number"],
    accuracy: ofLabels,
    "per-class": ofLabels,
    "confusion-matrix": ofLabels,
  },
  ...{ "macro-precision": ofClasses, "macro-recall": ofClasses, "macro-f1": ofClasses },
  ...{ precision: ["binary"], recall: ["binary"], f1: ["binary"], auc: ["binary"], perplexity: ["tokens"] },
  ...{ mae: ["number"], rmse: ["number"], r2: ["number"] },
};

/** The kinds of targets that have it. */
export const targetsOf = (metric: AskedMetric): readonly Target["kind"][] =>
  topKOf(metric) === undefined ? (kindsOf[metric] ?? []) : ofClasses;

/** All that a kind of target has, for a person. */
export const metricsOfTarget = (kind: Target["kind"]): string[] => [
  ...Object.keys(kindsOf).filter((name) => kindsOf[name]!.includes(kind)),
  ...(kind === "class" || kind === "tokens" ? ["top-5-accuracy"] : []),
];

/** Of `top-5-accuracy` 5. */
export function topKOf(metric: string): number | undefined {
  const k = /^top-(\d{1,3})-accuracy$/.exec(metric)?.[1];
  return k === undefined ? undefined : Number(k);
}

/** Whether a small or a large value is good. */
export const goalOf = (metric: Metric): "minimize" | "maximize" =>
  ["loss", "perplexity", "mae", "rmse"].includes(metric) ? "minimize" : "maximize";

/** Undefined or null where the target has no such number, or this held-out set none. */
export function metricOf(
  evaluation: {
    readonly loss: number;
    readonly accuracy: number | null;
    readonly metrics: Readonly<Record<string, number>>;
  },
  metric: Metric,
): number | null | undefined {
  if (metric === "loss" || metric === "accuracy") return evaluation[metric];
  return evaluation.metrics[metric];
}

/**
 * Of the mean cross-entropy of tokens. It is infinite from 710 on, which JSON cannot hold: from 1e300 on (a mean of 690) it is
 * told as 1e300, so that it can be stored, sent and compared like any other number.
 */
export const perplexityOf = (crossEntropy: number): number =>
  crossEntropy > Math.log(perplexityMax) ? perplexityMax : Math.exp(crossEntropy);
export const perplexityMax = 1e300;
