import type { LossPoint, Progress } from "../../protocol/messages/job.ts";
import type { StepReport, Trainee } from "./trainee.ts";

/** Four times a second is live to a person and nothing to the network. */
const intervalMs = 250;

/** Gathers steps between two progress reports: rates over the interval, one loss point a report. */
export class ProgressMeter {
  #sinceMs = 0;
  #steps: StepReport[] = [];
  /** Of the last report with a step that counts. */
  #newest: Omit<LossPoint, "step"> = { loss: 0, accuracy: 0 };

  /** Forgets the steps of an earlier generation: its pause must not count as slowness. */
  reset(nowMs: number): void {
    this.#sinceMs = nowMs;
    this.#steps = [];
  }

  add(step: StepReport): void {
    this.#steps.push(step);
  }

  isDue(nowMs: number): boolean {
    return nowMs - this.#sinceMs >= intervalMs;
  }

  /** The report over all steps since the last one; at least one must have been added. */
  take(
    nowMs: number,
    {
      trainer,
      worldSize,
    }: {
      readonly trainer: Pick<Trainee, "totalSteps" | "stepsPerEpoch" | "stall" | "skippedCount">;
      readonly worldSize: number;
    },
  ): Progress {
    const last = this.#steps.at(-1)!;
    const sum = (of: (step: StepReport) => number) =>
      this.#steps.reduce((total, step) => total + of(step), 0);
    const examples = sum((step) => step.examples);
    const used = this.#steps.filter((step) => step.fault === undefined);
    if (used.length > 0) this.#newest = meanOf(used);
    const point: LossPoint = { step: last.step, ...this.#newest };
    const progress: Progress = {
      step: last.step,
      totalSteps: trainer.totalSteps,
      epoch: last.step / trainer.stepsPerEpoch,
      loss: point.loss,
      accuracy: point.accuracy,
      samplesPerSecond: examples / Math.max(1e-3, (nowMs - this.#sinceMs) / 1_000),
      communicationMs: sum((step) => step.communicationMs) / sum((step) => step.stepCount),
      hiddenCommunicationMs: sum((step) => step.hiddenCommunicationMs) / sum((step) => step.stepCount),
      communicationShare: Math.min(
        1,
        sum((step) => step.communicationMs) /
          Math.max(
            1e-3,
            sum((step) => step.durationMs),
          ),
      ),
      sentBytes: last.sentBytes,
      worldSize,
      stallBoundMs: trainer.stall.boundMs,
      skippedSteps: trainer.skippedCount,
      ...(last.batchShares ? { batchShares: [...last.batchShares] } : {}),
      points: used.length > 0 ? [point] : [],
    };
    this.reset(nowMs);
    return progress;
  }
}

function meanOf(steps: readonly StepReport[]): Omit<LossPoint, "step"> {
  const examples = steps.reduce((total, step) => total + step.examples, 0);
  const mean = (of: (step: StepReport) => number) =>
    steps.reduce((total, step) => total + of(step) * step.examples, 0) / examples;
  const hasAccuracy = steps.every(({ accuracy }) => accuracy !== null);
  return {
    loss: mean((step) => step.loss),
    accuracy: hasAccuracy ? mean((step) => step.accuracy ?? 0) : null,
  };
}
