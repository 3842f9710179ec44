import { z } from "zod";

/** Of the held-out set: what states of a job, and trials of a sweep, are compared by. */
export const metricSchema = z.enum(["loss", "accuracy", "auc", "perplexity", "rmse"]);
export type Metric = z.infer<typeof metricSchema>;

/** Whether a small or a large value is good. */
export const goalOf = (metric: Metric): "minimize" | "maximize" =>
  metric === "accuracy" || metric === "auc" ? "maximize" : "minimize";

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
