import { expect, test } from "vitest";
import { jobSpecSchema } from "../../../protocol/job-spec.ts";

const least = { name: "digits", model: { architecture: "cnn" }, data: { source: "mnist" } };
const mistakesOf = (changes: object): string[] => {
  const result = jobSpecSchema.safeParse({ ...least, ...changes });
  return result.success ? [] : result.error.issues.map(({ path }) => path.join("."));
};

test("three lines are a job; everything else has a default", () => {
  expect(jobSpecSchema.parse(least)).toEqual({
    name: "digits",
    priority: 5,
    project: "default",
    model: { architecture: "cnn", filters: [32], kernelSize: 3, hidden: [] },
    data: { source: "mnist" },
    optimizer: { kind: "adam", learningRate: 0.001, beta1: 0.9, beta2: 0.999, epsilon: 1e-7 },
    schedule: { kind: "constant" },
    batchSize: 64,
    batchShares: "even",
    epochs: 1,
    workers: { min: 1, max: 4, spares: 0 },
    seed: 1,
    checkpoint: { everySteps: 200, keepLast: 1, keepBest: false },
    engine: "auto",
    ringOrder: "measured",
    transport: "encrypted",
    wire: "f32",
    allReduce: "auto",
    overlap: "auto",
    nonFinite: "stop",
    synchronization: { kind: "every-step" },
  });
});

test("a job that was read is read again to the same job", () => {
  const job = jobSpecSchema.parse(least);
  expect(jobSpecSchema.parse(JSON.parse(JSON.stringify(job)))).toEqual(job);
});

test.each([
  [{ name: "" }, "name"],
  [{ name: "Digits" }, "name"],
  [{ name: "../etc" }, "name"],
  [{ name: "a".repeat(64) }, "name"],
  [{ model: { architecture: "rnn" } }, "model.architecture"],
  [{ model: { architecture: "cnn", filters: [] } }, "model.filters"],
  [{ data: { source: "idx" } }, "data.trainImages"],
  [{ optimizer: { kind: "adam", beta1: 1 } }, "optimizer.beta1"],
  [{ optimizer: { kind: "sgd", learningRate: 0 } }, "optimizer.learningRate"],
  [{ optimizer: { kind: "sgd", learningRate: Number.NaN } }, "optimizer.learningRate"],
  [{ optimizer: { kind: "adamw", weightDecay: -1 } }, "optimizer.weightDecay"],
  [{ optimizer: { kind: "rmsprop", decay: 1 } }, "optimizer.decay"],
  [{ schedule: { kind: "step", everySteps: 10 } }, "schedule.factor"],
  [{ schedule: { kind: "linear", warmupSteps: -1 } }, "schedule.warmupSteps"],
  [{ clipNorm: 0 }, "clipNorm"],
  [{ microBatchSize: 0 }, "microBatchSize"],
  [{ batchSize: 0 }, "batchSize"],
  [{ batchSize: 1.5 }, "batchSize"],
  [{ epochs: -1 }, "epochs"],
  [{ workers: { min: 3, max: 2 } }, "workers.min"],
  [{ workers: { min: 1, max: 257 } }, "workers.max"],
  [{ seed: 2 ** 32 }, "seed"],
  [{ checkpoint: { everySteps: 0 } }, "checkpoint.everySteps"],
  [{ engine: "torch" }, "engine"],
  [{ transport: "carrier pigeon" }, "transport"],
  [{ wire: "f16" }, "wire"],
  [{ allReduce: "tree" }, "allReduce"],
  [{ allReduce: "doubling", wire: "int8" }, "allReduce"],
  [{ allReduce: "doubling", topK: { fraction: 0.1 } }, "allReduce"],
  [{ synchronization: { kind: "gossip" } }, "synchronization.kind"],
  [{ synchronization: { kind: "averaging", everySteps: 0 } }, "synchronization.everySteps"],
  [{ synchronization: { kind: "diloco", outerMomentum: 1 } }, "synchronization.outerMomentum"],
  [{ synchronization: { kind: "every-step", everySteps: 4 } }, "synchronization"],
  [{ topK: { fraction: 0 } }, "topK.fraction"],
  [{ wire: "int8", topK: { fraction: 0.01 } }, "topK"],
  [{ stages: 1 }, "stages"],
  [{ stages: 5, workers: { min: 1, max: 4 } }, "stages"],
  [{ stages: 2, topK: { fraction: 0.1 } }, "topK"],
  [{ stages: 2, synchronization: { kind: "averaging" } }, "synchronization"],
  [{ learningrate: 1 }, ""],
])("%j is a mistake at %s", (changes, path) => {
  expect(mistakesOf(changes)).toContain(path);
});

test.each([
  [{ optimizer: { kind: "sgd" } }, { kind: "sgd", learningRate: 0.01, momentum: 0 }],
  [
    { optimizer: { kind: "adam" } },
    { kind: "adam", learningRate: 0.001, beta1: 0.9, beta2: 0.999, epsilon: 1e-7 },
  ],
])("%j is filled up with the defaults of its kind", (changes, optimizer) => {
  expect(jobSpecSchema.parse({ ...least, ...changes }).optimizer).toEqual(optimizer);
});
