import { describe, expect, test } from "vitest";
import { modelOf } from "../../../agent/models/library.ts";
import {
  bytesNeeded,
  checkMemory,
  evaluatedAtOnce,
  forecastMemory,
} from "../../../agent/training/memory-forecast.ts";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import { exampleSpec } from "../../fixtures/messages.ts";

const shape = { inputShape: [100], target: { kind: "class" as const, classCount: 10 } };
const { description } = modelOf({ architecture: "mlp", hidden: [200] }, shape);
const forecast = (spec: Partial<JobSpec>) => forecastMemory(exampleSpec(spec), description);
const one = { workers: { min: 1, max: 4, spares: 0 }, batchSize: 64 };

describe("what training will hold", () => {
  test("is told by shapes: weights, gradients, state, optimizer, outputs of a slice", () => {
    const parameters = 100 * 200 + 200 + 200 * 10 + 10;
    expect(description.parameterCount).toBe(parameters);
    const plain = forecast({ ...one, optimizer: { kind: "sgd", learningRate: 0.1, momentum: 0 } });
    expect(plain).toEqual({
      engineParameters: 8 * parameters,
      state: 12 * parameters,
      activations: 4 * 64 * (100 + 3 * 210),
      evaluation: 4 * 250 * (100 + 3 * 210),
      transfers: 16 * parameters,
    });
  });

  test("shrinks with the smallest world and with micro-batches, and grows with error feedback", () => {
    const whole = forecast(one);
    const shared = forecast({ ...one, workers: { min: 2, max: 4, spares: 0 } });
    expect(shared.activations).toBe(whole.activations / 2);
    const cut = forecast({ ...one, microBatchSize: 8 });
    expect(cut.activations).toBe(whole.activations / 8);
    expect(cut.state).toBe(whole.state + 4 * description.parameterCount);
    expect(forecast({ ...one, wire: "int8" }).state).toBe(cut.state);
  });

  test("is refused by name where there is less, before anything is built", () => {
    const large = { engineParameters: 1e9, state: 1e9, activations: 3e9, evaluation: 1e9, transfers: 1e9 };
    expect(() => checkMemory(large, { memoryBytes: 8e9, engine: "wasm" })).not.toThrow();
    expect(() => checkMemory(large, { memoryBytes: 6e9, engine: "wasm" })).toThrow(
      expect.objectContaining({
        code: "MODEL_TOO_LARGE",
        message:
          "training takes about 6.2 GB (weights and gradients 1.0 GB, state and optimizer 1.0 GB, activations 3.0 GB, checkpoints 1.0 GB), and the machine has 6.0 GB",
      }),
    );
    const wide = { ...large, activations: 4e9 };
    expect(() => checkMemory(wide, { memoryBytes: 64e9, engine: "wasm" })).toThrow(/a heap of 4.3 GB/);
    expect(() => checkMemory(wide, { memoryBytes: 64e9, engine: "tensorflow" })).not.toThrow();
  });
});

describe("what is evaluated at once", () => {
  const tokens = { classCount: 32_768, length: 128 };
  const { description: language } = modelOf(
    { architecture: "transformer-lm", layers: 1, width: 64, heads: 4, dropout: 0 },
    {
      inputShape: [tokens.length],
      features: [{ name: "text", kind: "category", shape: [tokens.length], cardinality: tokens.classCount }],
      target: { kind: "tokens", ...tokens },
    },
  );
  const small = { workers: { min: 1, max: 2, spares: 0 }, batchSize: 8 };

  test("is no more than training takes, where examples are large: logits of 250 would be beyond the heap", () => {
    const spec = exampleSpec(small);
    expect(evaluatedAtOnce(spec, language)).toBe(8);
    const forecast = forecastMemory(spec, language);
    expect(forecast.evaluation).toBe(forecast.activations);
    expect(bytesNeeded(forecast, "wasm")).toBeLessThan(2e9);
    const all = { ...forecast, evaluation: (250 / 8) * forecast.evaluation };
    expect(bytesNeeded(all, "wasm")).toBe(Number.POSITIVE_INFINITY);
  });

  test("is more where examples are small, and counted", () => {
    const spec = exampleSpec(small);
    expect(evaluatedAtOnce(spec, description)).toBe(250);
    const { activations, evaluation } = forecastMemory(spec, description);
    expect(evaluation).toBe((250 / 8) * activations);
  });

  test("is never more than a micro-batch, nor than what leaves others their turn", () => {
    expect(evaluatedAtOnce(exampleSpec({ ...small, batchSize: 64, microBatchSize: 4 }), description)).toBe(4);
    expect(evaluatedAtOnce(exampleSpec({ ...small, batchSize: 1_000 }), language)).toBe(250);
  });
});
