import { expect, test } from "vitest";
import { ProgressMeter } from "../../../agent/training/progress-meter.ts";
import { StallBound } from "../../../agent/training/stall-bound.ts";
import type { StepReport, Trainee } from "../../../agent/training/trainee.ts";
import { progressSchema } from "../../../protocol/messages/job-report.ts";

const trainer = { totalSteps: 10, stepsPerEpoch: 5, skippedCount: 2, stall: new StallBound() } as Trainee;
const step = (number: number, changes: Partial<StepReport> = {}): StepReport => ({
  ...{ step: number, stepCount: 1, loss: 0.5, accuracy: 0.75, examples: 8, fault: undefined },
  ...{ durationMs: 10, communicationMs: 1, hiddenCommunicationMs: 3, sentBytes: 0 },
  ...changes,
});
const fault = { rank: 1, parameter: "loss", step: 2, message: "the loss is not finite on rank 1 at step 2" };

test("skipped updates are counted, and their numbers stand in no mean and no curve", () => {
  const meter = new ProgressMeter();
  meter.add(step(1));
  meter.add(step(2, { fault, loss: Number.NaN, accuracy: Number.NaN, examples: 0 }));
  const mixed = progressSchema.parse(meter.take(250, { trainer, worldSize: 2 }));
  expect(mixed).toMatchObject({
    step: 2,
    loss: 0.5,
    accuracy: 0.75,
    skippedSteps: 2,
    hiddenCommunicationMs: 3,
  });
  meter.add(step(3, { fault, loss: Number.NaN, accuracy: Number.NaN, examples: 0 }));
  const none = progressSchema.parse(meter.take(500, { trainer, worldSize: 2 }));
  expect(none).toMatchObject({ step: 3, loss: 0.5, accuracy: 0.75, points: [] });
});

test("means are by examples, rates over the interval, and a number has no accuracy", () => {
  const meter = new ProgressMeter();
  meter.reset(1_000);
  meter.add(step(1, { loss: 1, accuracy: 0.5, examples: 8, communicationMs: 4 }));
  meter.add(step(2, { loss: 2, accuracy: 1, examples: 24, communicationMs: 2 }));
  const both = progressSchema.parse(meter.take(3_000, { trainer, worldSize: 2 }));
  expect(both).toMatchObject({ step: 2, loss: 1.75, accuracy: 0.875, samplesPerSecond: 16 });
  expect(both).toMatchObject({ communicationMs: 3, communicationShare: 0.3 });
  meter.add(step(3, { loss: 3, accuracy: null }));
  expect(meter.take(4_000, { trainer, worldSize: 2 })).toMatchObject({ loss: 3, accuracy: null });
});
