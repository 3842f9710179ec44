import { RingfoldError } from "../../../protocol/errors.ts";
import type { InferenceAnswer } from "./open-inference.ts";
import type { PredictionInput } from "./prediction-input.ts";
import type { TargetFacts } from "./served-version.ts";

/** What a model says of one example: which of these it says depends on the target. */
export interface Prediction {
  readonly index: number;
  /** Index of the likeliest class; 0 or 1 of a binary target. */
  readonly class?: number;
  /** Its label, where the data set has labels. */
  readonly className?: string;
  /** Of the classes, in order. */
  readonly scores?: readonly number[];
  /** Of 1, the positive class of a binary target. */
  readonly probability?: number;
  /** Of a target that is a number. */
  readonly value?: number;
  /** As it is known, in data that come with labels. */
  readonly label?: number;
}

/**
 * The first output holds one row of scores an example.
 * @param target what is known of it; a model with one output is taken for one that gives a number unless told
 * @throws RingfoldError MESSAGE_INVALID
 */
export function readPredictions(
  answer: InferenceAnswer,
  { batch, firstIndex, target }: { batch: PredictionInput; firstIndex: number; target?: TargetFacts },
): Prediction[] {
  const output = answer.outputs[0];
  const count = batch.shape[0] ?? 0;
  if (!output || output.shape[0] !== count || output.data.length < count) {
    throw new RingfoldError(
      "MESSAGE_INVALID",
      `${count} examples were answered with shape [${output?.shape.join(", ") ?? ""}]`,
    );
  }
  const width = output.data.length / count;
  return Array.from({ length: count }, (_, row) => {
    const label = batch.labels?.[row];
    return {
      index: firstIndex + row,
      ...readScores(output.data.slice(row * width, (row + 1) * width), target),
      ...(label === undefined ? {} : { label }),
    };
  });
}

function readScores(scores: readonly number[], target: TargetFacts | undefined): Partial<Prediction> {
  const named = (index: number) => {
    const className = target?.classes?.[index];
    return { class: index, ...(className === undefined ? {} : { className }) };
  };
  if (scores.length > 1) return { ...named(scores.indexOf(Math.max(...scores))), scores };
  const [value = Number.NaN] = scores;
  if (target?.kind === "binary") return { ...named(value >= 0.5 ? 1 : 0), probability: value };
  return { value };
}

/** A table, and how many are right where that is known. */
export async function predictionText(
  predictions: readonly Prediction[],
  { target, correct }: { readonly target: TargetFacts | undefined; readonly correct: number | undefined },
): Promise<string> {
  const { formatTable } = await import("../present/table.ts");
  const labelled = correct !== undefined;
  const table = formatTable(
    ["index", ...heads(predictions[0], target), ...(labelled ? ["label", ""] : [])],
    predictions.map((prediction) => {
      const { index, label } = prediction;
      const cells = [String(index), ...cellsOf(prediction)];
      return labelled ? [...cells, String(label), label === prediction.class ? "" : "wrong"] : cells;
    }),
  );
  return labelled ? `${table}\n${correct} of ${predictions.length} right` : table;
}

/** What `cellsOf` puts below them. */
function heads(first: Prediction | undefined, target: TargetFacts | undefined): string[] {
  if (first?.value !== undefined) return [target?.name ?? "value"];
  const name = target?.name ?? "class";
  if (first?.probability === undefined) return [name, "score"];
  return [name, `chance of ${target?.classes?.[1] ?? "1"}`];
}

function cellsOf(prediction: Prediction): string[] {
  const { value, probability, scores, class: predicted = 0, className = String(predicted) } = prediction;
  if (value !== undefined) return [String(Number(value.toPrecision(6)))];
  return [className, (probability ?? scores?.[predicted] ?? 0).toFixed(4)];
}
