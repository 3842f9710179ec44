import type { Evaluation } from "../../protocol/messages/job-report.ts";
import { goalOf, metricOf } from "../../protocol/metric.ts";
import type { EvaluationSpec } from "../../protocol/training-spec.ts";
import type { TrainingState } from "./training-state.ts";

/**
 * When the held-out set is evaluated on the way, and what is remembered of it. It is a function of the step and of scalars
 * in the state, so every rank comes to the same answer: also one that has healed, or was started from a checkpoint.
 * Source: Prechelt, "Early stopping - but when?", 1998, criterion UP with patience.
 */
export class EarlyStopping {
  /** With their values before the first step. */
  readonly scalars: Readonly<Record<string, number>>;
  readonly #spec: EvaluationSpec | undefined;
  readonly #everySteps: number;
  readonly #roundSteps: number;

  /** @param of.roundSteps steps from one synchronization point to the next */
  constructor(
    spec: EvaluationSpec | undefined,
    of: { readonly stepsPerEpoch: number; readonly roundSteps: number },
  ) {
    this.#spec = spec;
    this.#roundSteps = of.roundSteps;
    this.#everySteps =
      spec?.everySteps ?? Math.max(1, Math.round((spec?.everyEpochs ?? 1) * of.stepsPerEpoch));
    this.scalars = spec ? { evaluationCount: 0, staleEvaluations: 0, bestMetric: 0, bestStep: 0 } : {};
  }

  /** Whether the state after `step` steps, a synchronization point, is evaluated. */
  isDue(step: number): boolean {
    if (!this.#spec || step === 0) return false;
    const previous = step - (step % this.#roundSteps || this.#roundSteps);
    return Math.floor(step / this.#everySteps) > Math.floor(previous / this.#everySteps);
  }

  /** @returns whether it is the best so far */
  note({ scalars }: TrainingState, step: number, evaluation: Evaluation): boolean {
    const { metric, minDelta } = this.#spec!;
    const value = metricOf(evaluation, metric) ?? Number.NaN; // numbers have no accuracy
    const best = scalars.bestMetric!;
    const gain = goalOf(metric) === "minimize" ? best - value : value - best;
    // A NaN is never better.
    const isBetter = scalars.bestStep === 0 ? !Number.isNaN(value) : gain > minDelta;
    scalars.evaluationCount!++;
    scalars.staleEvaluations = isBetter ? 0 : scalars.staleEvaluations! + 1;
    if (isBetter) Object.assign(scalars, { bestMetric: value, bestStep: step });
    return isBetter;
  }

  isStopped({ scalars }: TrainingState): boolean {
    return scalars.staleEvaluations! >= (this.#spec?.patience ?? Number.POSITIVE_INFINITY);
  }
}
