import { createHash } from "node:crypto";
import { type Dataset, type ExampleSet, imageSet } from "../../../agent/data/dataset.ts";
import type { Batch, BatchResult, ParameterSlot, TrainableModel } from "../../../agent/engine/port.ts";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import type { ModelDescription } from "../../../protocol/messages/model.ts";
import { Randomness } from "../world/randomness.ts";

const featureCount = 16;
const classCount = 3;
const parameterCount = (featureCount + 1) * classCount;

/** Small labelled images; the first pixel of a training image is its index, so that a batch tells who is in it. */
export function syntheticDataset(exampleCount: number): Dataset {
  const random = new Randomness(exampleCount);
  const examples = (count: number): ExampleSet =>
    imageSet({
      count,
      pixels: Uint8Array.from({ length: count * featureCount }, (_, i) =>
        i % featureCount === 0 ? i / featureCount : random.integer(0, 255),
      ),
      labels: Uint8Array.from({ length: count }, () => random.integer(0, classCount - 1)),
    });
  const shape = { inputShape: [4, 4, 1], target: { kind: "class" as const, classCount } };
  const digest = createHash("sha256").update(`${exampleCount}`).digest("hex");
  return { train: examples(exampleCount), test: examples(7), shape, digest };
}

const layout: readonly ParameterSlot[] = [
  { name: "kernel", shape: [featureCount, classCount], offset: 0, elementCount: featureCount * classCount },
  { name: "bias", shape: [classCount], offset: featureCount * classCount, elementCount: classCount },
];

const description: ModelDescription = {
  topology: { kind: "softmax regression" },
  inputShape: [4, 4, 1],
  outputShape: [classCount],
  parameterCount,
  layers: [
    { name: "dense", kind: "Dense", outputShape: [classCount], parameterCount, multiplyAdds: parameterCount },
  ],
};

export interface LinearModelHooks {
  /** Virtual time passes while a machine computes. */
  readonly compute: () => Promise<void>;
  /** Indices of the examples of which a gradient was taken. */
  readonly onGradient: (examples: readonly number[]) => void;
  /** The trainer's state has changed: a step, a healing, a restored checkpoint. */
  readonly onWrite: () => void;
}

/** Softmax regression in plain arithmetic: a compute engine of one screen. */
export function linearModel({ seed }: Pick<JobSpec, "seed">, hooks: LinearModelHooks): TrainableModel {
  const random = new Randomness(seed);
  let parameters = Float32Array.from({ length: parameterCount }, () => random.real(-0.5, 0.5));
  return {
    description,
    layout,
    readParameters: async (into) => into.set(parameters),
    writeParameters: (from) => {
      parameters = from.slice();
      hooks.onWrite();
    },
    gradient: async (batch, gradient, onFinal) => {
      hooks.onGradient(
        Array.from({ length: batch.exampleCount }, (_, i) =>
          Math.round(batch.inputs[i * featureCount]! * 255),
        ),
      );
      const result = forward(parameters, batch, gradient);
      onFinal?.(featureCount); // the ring begins, and much may happen to it before the computation has ended
      await hooks.compute();
      return result;
    },
    evaluate: async (batch) => {
      const result = forward(parameters, batch);
      await hooks.compute();
      return result;
    },
    close: () => {},
  };
}

/** Sums over the batch; adds up the gradient of the summed cross-entropy where one is asked for. */
function forward(parameters: Float32Array, batch: Batch, gradient?: Float32Array): BatchResult {
  gradient?.fill(0);
  let lossSum = 0;
  let correctCount = 0;
  for (let example = 0; example < batch.exampleCount; example++) {
    const features = batch.inputs.subarray(example * featureCount, (example + 1) * featureCount);
    const logits = Array.from({ length: classCount }, (_, c) => {
      let sum = parameters[featureCount * classCount + c]!;
      for (let f = 0; f < featureCount; f++) sum += features[f]! * parameters[f * classCount + c]!;
      return sum;
    });
    const highest = Math.max(...logits);
    const powers = logits.map((logit) => Math.exp(logit - highest));
    const total = powers.reduce((sum, power) => sum + power, 0);
    const label = batch.targets[example]!;
    lossSum -= Math.log(powers[label]! / total);
    if (logits[label] === highest) correctCount++;
    if (!gradient) continue;
    for (let c = 0; c < classCount; c++) {
      const error = powers[c]! / total - (c === label ? 1 : 0);
      for (let f = 0; f < featureCount; f++) gradient[f * classCount + c]! += error * features[f]!;
      gradient[featureCount * classCount + c]! += error;
    }
  }
  return { lossSum, targetCount: batch.exampleCount, lossWeight: batch.exampleCount, correctCount };
}
