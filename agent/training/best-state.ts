import type { JobSpec } from "../../protocol/job-spec.ts";
import type { TrainingPoint } from "../../protocol/messages/job.ts";
import type { Evaluation } from "../../protocol/messages/job-report.ts";
import { goalOf, type Metric, metricOf } from "../../protocol/metric.ts";
import { type TrainingState, trainingPoint } from "./training-state.ts";

/** Slot of the state; f32 [parameterCount]. */
const bestParameters = "bestParameters";

/** What a version is made of. */
export interface Settled {
  readonly parameters: Float32Array;
  readonly evaluation: Evaluation;
  readonly point: TrainingPoint;
  /** An earlier state than the last. */
  readonly isBest: boolean;
}

/**
 * With `checkpoint.keepBest`: the parameters that the held-out set found best so far. They are a part of the state, so they
 * are in each checkpoint, every rank has them, whoever heals gets them, and a run that goes back to a checkpoint has those
 * that were best then. A file of its own beside the checkpoints would have to follow each of those turns. Cost: one more
 * array in memory, in checkpoints and in healing.
 */
export class BestState {
  readonly #isKept: boolean;
  readonly #metric: Metric;

  constructor({ checkpoint, evaluation }: Pick<JobSpec, "checkpoint" | "evaluation">, state: TrainingState) {
    this.#isKept = checkpoint.keepBest;
    this.#metric = evaluation?.metric ?? "loss";
    if (this.#isKept) state.slots[bestParameters] = new Float32Array(state.parameters.length);
  }

  /** The state as it stands is the best so far. */
  keep({ slots, parameters }: TrainingState): void {
    slots[bestParameters]?.set(parameters);
  }

  /**
   * The last state, unless an earlier one was at least as good. Every rank comes to the same answer.
   * @param evaluate the held-out set with these parameters, over all ranks
   */
  async settle(
    state: TrainingState,
    evaluate: (parameters: Float32Array) => Promise<Evaluation>,
  ): Promise<Settled> {
    const { parameters, slots, scalars } = state;
    const evaluation = await evaluate(parameters);
    const last = { parameters, evaluation, point: trainingPoint(state), isBest: false };
    const best = slots[bestParameters];
    const { bestStep = 0, bestMetric = 0 } = scalars;
    if (!best || bestStep === 0) return last;
    const value = metricOf(evaluation, this.#metric) ?? Number.NaN;
    if (goalOf(this.#metric) === "minimize" ? value < bestMetric : value > bestMetric) return last;
    const point = trainingPoint({ step: bestStep, parameters: best, slots: {}, scalars: {} });
    return { parameters: best, evaluation: await evaluate(best), point, isBest: true };
  }
}
