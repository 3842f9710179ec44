import type { Evaluation } from "../../../protocol/messages/job-report.ts";
import type { Asked, TallyPlan } from "./asked.ts";
import { numbers } from "./tally.ts";

/** What an evaluation tells beside loss and accuracy. */
export type Figures = Pick<Evaluation, "metrics" | "classes" | "confusion">;

/**
 * Metrics and tables of what all ranks have counted.
 * @param area under the ROC curve, where it is known
 */
export function figuresOf(asked: Asked, sums: Float64Array | undefined, area: number | undefined): Figures {
  const told = area === undefined ? {} : { auc: area };
  const { names, plan } = asked;
  if (!plan || !sums) return { metrics: told };
  const all = plan.kind === "numbers" ? { metrics: numberMetrics(sums) } : classFigures(plan, sums);
  const metrics = Object.entries(all.metrics).filter(([name]) => names.some((each) => each === name));
  return {
    metrics: { ...told, ...Object.fromEntries(metrics) },
    ...("classes" in all && names.includes("per-class") ? { classes: all.classes } : {}),
    ...("confusion" in all && names.includes("confusion-matrix") ? { confusion: all.confusion } : {}),
  };
}

/** Numbers that are all the same leave nothing to explain, and so no share of it. */
function numberMetrics(sums: Float64Array): Record<string, number> {
  const of = (place: Exclude<keyof typeof numbers, "length">) => sums[numbers[place]]!;
  if (of("count") === 0) return {};
  const deviations = of("squaredDeviations");
  return {
    mae: of("absoluteErrors") / of("count"),
    ...(deviations > 0 ? { r2: 1 - of("squaredErrors") / deviations } : {}),
  };
}

type ClassPlan = Extract<TallyPlan, { kind: "classes" }>;
type ClassFigures = Required<Figures>;

function classFigures(
  plan: ClassPlan,
  sums: Float64Array,
): Pick<ClassFigures, "metrics"> & Partial<ClassFigures> {
  const { topK, counts, classCount } = plan;
  const all = sums.at(-1)!;
  if (all === 0) return { metrics: {} };
  const first = sums.length - topK.length - 1;
  const hits = topK.map((k, at) => [`top-${k}-accuracy`, sums[first + at]! / all] as const);
  const metrics: Record<string, number> = Object.fromEntries(hits);
  if (counts === "none") return { metrics };
  const classes = marginsOf(plan, sums).map(scoreOf);
  Object.assign(metrics, classCount === 2 ? binaryMetrics(classes[1]!) : {}, macroMetrics(classes));
  if (counts === "margins") return { metrics };
  const confusion = Array.from({ length: classCount }, (_, label) => [
    ...sums.subarray(label * classCount, (label + 1) * classCount),
  ]);
  return { metrics, classes: classes.map(({ answers: _, ...told }) => told), confusion };
}

interface Margins {
  readonly right: number;
  /** Examples of the class, and answers that say so. */
  readonly support: number;
  readonly answers: number;
}

function marginsOf({ classCount, counts }: ClassPlan, sums: Float64Array): Margins[] {
  return Array.from({ length: classCount }, (_, label) => {
    if (counts === "margins")
      return {
        right: sums[label]!,
        support: sums[classCount + label]!,
        answers: sums[2 * classCount + label]!,
      };
    let [support, answers] = [0, 0];
    for (let other = 0; other < classCount; other++) {
      support += sums[label * classCount + other]!;
      answers += sums[other * classCount + label]!;
    }
    return { right: sums[label * classCount + label]!, support, answers };
  });
}

/** A share of nothing is 0, as in scikit-learn. */
const scoreOf = ({ right, support, answers }: Margins) => ({
  support,
  answers,
  precision: answers > 0 ? right / answers : 0,
  recall: support > 0 ? right / support : 0,
  f1: support + answers > 0 ? (2 * right) / (support + answers) : 0,
});
type Score = ReturnType<typeof scoreOf>;

const binaryMetrics = ({ precision, recall, f1 }: Score): Record<string, number> => ({
  precision,
  recall,
  f1,
});

/** Plain means over the classes that are there, as labels or as answers. */
function macroMetrics(classes: readonly Score[]): Record<string, number> {
  const present = classes.filter(({ support, answers }) => support + answers > 0);
  const mean = (key: "precision" | "recall" | "f1") =>
    present.reduce((sum, score) => sum + score[key], 0) / present.length;
  return { "macro-precision": mean("precision"), "macro-recall": mean("recall"), "macro-f1": mean("f1") };
}
