import type { Target } from "../../../protocol/data-schema.ts";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import { type AskedMetric, tableClassesMax, topKOf } from "../../../protocol/metric.ts";

/** What is counted of each held-out target. */
export type TallyPlan =
  | {
      readonly kind: "classes";
      readonly classCount: number;
      /** Each pair of class and answer; of many classes their margins alone, of which means over classes are made; or neither. */
      readonly counts: "matrix" | "margins" | "none";
      readonly topK: readonly number[];
    }
  | { readonly kind: "numbers" };

/** What an evaluation tells beside loss, accuracy, and what follows from the sums of these. */
export interface Asked {
  readonly names: readonly AskedMetric[];
  /** The area under the ROC curve: scores of all examples are gathered. */
  readonly area: boolean;
  readonly plan: TallyPlan | undefined;
}

export const nothingAsked: Asked = { names: [], area: false, plan: undefined };

/** Tables are told at the end alone, as is an area that nobody has asked for. */
export function askedOf(
  { metrics = [], evaluation }: Pick<JobSpec, "metrics" | "evaluation">,
  target: Target,
  when: "on the way" | "at the end",
): Asked {
  const isEnd = when === "at the end";
  const compared = evaluation ? [evaluation.metric] : [];
  const names = [...new Set([...metrics, ...compared])].filter((name) => isEnd || !isTable(name));
  const area = names.includes("auc") || (isEnd && target.kind === "binary");
  return { names, area, plan: planOf(names, target) };
}

const isTable = (name: AskedMetric): boolean => name === "per-class" || name === "confusion-matrix";
const counted = new Set<AskedMetric>([
  ...(["macro-precision", "macro-recall", "macro-f1", "precision", "recall", "f1"] as const),
  ...(["per-class", "confusion-matrix"] as const),
]);

function planOf(names: readonly AskedMetric[], target: Target): TallyPlan | undefined {
  if (target.kind === "number")
    return names.some((name) => name === "mae" || name === "r2") ? { kind: "numbers" } : undefined;
  const topK = names.flatMap((name) => topKOf(name) ?? []);
  const counts = names.some((name) => counted.has(name));
  if (!counts && topK.length === 0) return undefined;
  const classCount = target.kind === "binary" ? 2 : target.classCount;
  const form = classCount <= tableClassesMax ? "matrix" : "margins";
  return { kind: "classes", classCount, counts: counts ? form : "none", topK };
}
