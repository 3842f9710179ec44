import { describe, expect, test } from "vitest";
import { modelOf } from "../../../agent/models/library.ts";
import {
  bytesNeeded,
  checkMemory,
  evaluatedAtOnce,
  forecastMemory,
} from "../../../agent/training/memory-forecast.ts";
import { trainingMemory } from "../../../agent/training/training-memory.ts";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import { dedicatedMemory } from "../../../protocol/messages/membership.ts";
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

describe("on a GPU with memory of its own", () => {
  const large = { engineParameters: 2e9, state: 2e9, activations: 8e9, evaluation: 1e9, transfers: 1e9 };
  const machine = { memoryBytes: 8e9, engine: "tensorflow", gpuMemoryBytes: 12e9 };

  test("its part lies there, and weights and gradients pass through the machine's", () => {
    expect(() => checkMemory(large, machine)).not.toThrow();
    expect(bytesNeeded(large, machine)).toBe(200 * 2 ** 20 + 2e9 + 2e9 + 1e9);
    expect(() => checkMemory(large, { ...machine, gpuMemoryBytes: undefined as never })).toThrow(
      /the machine has/,
    );
  });

  test("a model that does not fit it is refused by name, before anything is built", () => {
    expect(() => checkMemory(large, { ...machine, gpuMemoryBytes: 10e9 })).toThrow(
      expect.objectContaining({
        code: "MODEL_TOO_LARGE",
        data: expect.objectContaining({ memoryBytes: 10e9 }),
        message:
          "training takes about 13.2 GB (weights and gradients 2.0 GB, state and optimizer 2.0 GB, activations 8.0 GB, checkpoints 1.0 GB), and 10.5 GB of that on the GPU, which has 10.0 GB",
      }),
    );
    expect(bytesNeeded(large, { ...machine, gpuMemoryBytes: 10e9 })).toBe(Number.POSITIVE_INFINITY);
  });

  test("nor one whose state and checkpoints the machine does not hold", () => {
    expect(() => checkMemory(large, { ...machine, memoryBytes: 5e9 })).toThrow(
      /about 5\.2 GB .*activations 8\.0 GB on the GPU.*, and the machine has 5\.0 GB$/,
    );
  });

  const setup = { gpuMemoryBytes: 12e9 };
  test.each([
    ["tensorflow", "CUDA device of TensorFlow", 12e9],
    ["webgpu", "NVIDIA GeForce RTX 3090", 12e9],
    ["webgpu", "Intel(R) UHD Graphics 770", undefined],
    ["webgpu", null, undefined],
    ["wasm", null, undefined],
  ] as const)("%s on %s", (name, gpu, gpuMemoryBytes) => {
    const told = trainingMemory(setup, { name, gpu });
    expect([told.engine, told.gpuMemoryBytes]).toEqual([name, gpuMemoryBytes]);
    expect(trainingMemory({}, { name, gpu }).gpuMemoryBytes).toBeUndefined();
  });

  test("only what its driver tells as its own counts, and of several the largest", () => {
    const shared = { name: "Apple M2 GPU", memoryBytes: 16e9 };
    const own = { name: "NVIDIA T4", memoryBytes: 15e9, isDedicated: true as const };
    const small = { ...own, memoryBytes: 8e9 };
    expect([[], [shared], [small, shared, own]].map(dedicatedMemory)).toEqual([undefined, undefined, 15e9]);
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
    expect(bytesNeeded(forecast, { engine: "wasm" })).toBeLessThan(2e9);
    const all = { ...forecast, evaluation: (250 / 8) * forecast.evaluation };
    expect(bytesNeeded(all, { engine: "wasm" })).toBe(Number.POSITIVE_INFINITY);
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
