import type { LossPoint, Progress } from "../../protocol/messages/job-report.ts";
import type { StepReport, Trainee } from "./trainee.ts";

/** Four times a second is live to a person and nothing to the network. */
const intervalMs = 250;

/** What a report needs of the steps since the one before, however many those are: most ranks never report. */
interface Sums {
  examples: number;
  stepCount: number;
  communicationMs: number;
  hiddenCommunicationMs: number;
  durationMs: number;
  /** Of the steps that count, weighted by their examples. */
  used: { examples: number; loss: number; accuracy: number | null };
}

const nothing = (): Sums => ({
  ...{ examples: 0, stepCount: 0, communicationMs: 0, hiddenCommunicationMs: 0, durationMs: 0 },
  used: { examples: 0, loss: 0, accuracy: 0 },
});

/** Gathers steps between two progress reports: rates over the interval, one loss point a report. */
export class ProgressMeter {
  #sinceMs = 0;
  #sums = nothing();
  #last: StepReport | undefined;
  /** Of the last report with a step that counts. */
  #newest: Omit<LossPoint, "step"> = { loss: 0, accuracy: 0 };

  /** Forgets the steps of an earlier generation: its pause must not count as slowness. */
  reset(nowMs: number): void {
    this.#sinceMs = nowMs;
    this.#sums = nothing();
    this.#last = undefined;
  }

  add(step: StepReport): void {
    const sums = this.#sums;
    const { examples, loss, accuracy, fault } = step;
    this.#last = step;
    sums.examples += examples;
    sums.stepCount += step.stepCount;
    sums.communicationMs += step.communicationMs;
    sums.hiddenCommunicationMs += step.hiddenCommunicationMs;
    sums.durationMs += step.durationMs;
    if (fault) return;
    sums.used.examples += examples;
    sums.used.loss += loss * examples;
    const known = sums.used.accuracy;
    sums.used.accuracy = known === null || accuracy === null ? null : known + accuracy * examples;
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
    const last = this.#last!;
    const { examples, stepCount, communicationMs, hiddenCommunicationMs, durationMs, used } = this.#sums;
    if (used.examples > 0) {
      const accuracy = used.accuracy === null ? null : used.accuracy / used.examples;
      this.#newest = { loss: used.loss / used.examples, accuracy };
    }
    const point: LossPoint = { step: last.step, ...this.#newest };
    const progress: Progress = {
      step: last.step,
      totalSteps: trainer.totalSteps,
      epoch: last.step / trainer.stepsPerEpoch,
      loss: point.loss,
      accuracy: point.accuracy,
      samplesPerSecond: examples / Math.max(1e-3, (nowMs - this.#sinceMs) / 1_000),
      communicationMs: communicationMs / stepCount,
      hiddenCommunicationMs: hiddenCommunicationMs / stepCount,
      communicationShare: Math.min(1, communicationMs / Math.max(1e-3, durationMs)),
      sentBytes: last.sentBytes,
      worldSize,
      stallBoundMs: trainer.stall.boundMs,
      skippedSteps: trainer.skippedCount,
      ...(last.batchShares ? { batchShares: [...last.batchShares] } : {}),
      points: used.examples > 0 ? [point] : [],
    };
    this.reset(nowMs);
    return progress;
  }
}
