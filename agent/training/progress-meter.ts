import type { LossPoint, Progress } from "../../protocol/messages/job.ts";
import type { StepReport, Trainer } from "./trainer.ts";

/** Four times a second is live to a person and nothing to the network. */
const intervalMs = 250;

/** Gathers steps between two progress reports: rates over the interval, one loss point a report. */
export class ProgressMeter {
  #sinceMs = 0;
  #steps: StepReport[] = [];

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
    { trainer, worldSize }: { readonly trainer: Trainer; readonly worldSize: number },
  ): Progress {
    const last = this.#steps.at(-1)!;
    const sum = (of: (step: StepReport) => number) =>
      this.#steps.reduce((total, step) => total + of(step), 0);
    const examples = sum((step) => step.examples);
    const mean = (of: (step: StepReport) => number) => sum((step) => of(step) * step.examples) / examples;
    const point: LossPoint = {
      step: last.step,
      loss: mean((s) => s.loss),
      accuracy: mean((s) => s.accuracy),
    };
    const progress: Progress = {
      step: last.step,
      totalSteps: trainer.totalSteps,
      epoch: last.step / trainer.stepsPerEpoch,
      loss: point.loss,
      accuracy: point.accuracy,
      samplesPerSecond: examples / Math.max(1e-3, (nowMs - this.#sinceMs) / 1_000),
      communicationMs: sum((step) => step.communicationMs) / sum((step) => step.stepCount),
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
      points: [point],
    };
    this.reset(nowMs);
    return progress;
  }
}
