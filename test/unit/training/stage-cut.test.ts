import { describe, expect, test } from "vitest";
import { modelOf } from "../../../agent/models/library.ts";
import { bytesNeeded, checkMemory, forecastMemory } from "../../../agent/training/memory-forecast.ts";
import { cutIntoStages, forecastStage } from "../../../agent/training/stages/stage-cut.ts";
import { stageSizes } from "../../../agent/training/stages/stage-sizes.ts";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import { exampleSpec } from "../../fixtures/messages.ts";

const shape = { inputShape: [1_000], target: { kind: "class" as const, classCount: 10 } };
const { description } = modelOf({ architecture: "mlp", hidden: [1_000, 1_000, 1_000] }, shape);
const specOf = (stages: number, changes: Partial<JobSpec> = {}) => ({
  ...exampleSpec({ batchSize: 64, microBatchSize: 8, ...changes }),
  stages,
});
const totalOf = (forecast: object) => Object.values(forecast).reduce((sum, bytes) => sum + bytes, 0);

describe("cutting into stages", () => {
  test("balances what the stages hold", () => {
    const spec = specOf(3);
    const ranges = cutIntoStages(spec, description);
    expect(ranges.map(({ fromLayer }) => fromLayer)).toEqual([
      0,
      ...ranges.slice(0, -1).map(({ toLayer }) => toLayer),
    ]);
    const parameters = ranges.map(({ fromLayer, toLayer }) =>
      description.layers
        .slice(fromLayer, toLayer)
        .reduce((sum, { parameterCount }) => sum + parameterCount, 0),
    );
    expect(Math.max(...parameters)).toBeLessThan(0.4 * description.parameterCount);
  });

  test("more stages than layers are refused with the number of layers", () => {
    expect(() => cutIntoStages(specOf(9), description)).toThrow(
      expect.objectContaining({
        code: "JOB_INVALID",
        message: "stages: 9, and this model has 4 layers",
      }),
    );
  });
});

describe("what a stage will hold", () => {
  test("is less than what the whole model would, on each of them", () => {
    const whole = totalOf(forecastMemory({ ...specOf(2), stages: undefined }, description));
    for (const range of cutIntoStages(specOf(2), description))
      expect(totalOf(forecastStage(specOf(2), description, range))).toBeLessThan(0.85 * whole);
    for (const range of cutIntoStages(specOf(4), description))
      expect(totalOf(forecastStage(specOf(4), description, range))).toBeLessThan(0.6 * whole);
  });

  test("is compared with what the agent's owner gives", () => {
    const range = cutIntoStages(specOf(4), description)[0]!;
    const limit = { memoryBytes: 100e6, isLimited: true, engine: "wasm" };
    expect(() => checkMemory(forecastStage(specOf(4), description, range), limit)).toThrow(
      expect.objectContaining({
        code: "MODEL_TOO_LARGE",
        message: expect.stringMatching(/this agent may use 0.1 GB$/),
      }),
    );
  });
});

describe("what each number of stages would take", () => {
  const spec = exampleSpec({ batchSize: 64, microBatchSize: 8, workers: { min: 1, max: 4, spares: 0 } });
  const whole = totalOf(forecastMemory(spec, description));
  const sizes = (memoryBytes: number, changes: Partial<JobSpec> = {}) =>
    stageSizes({ ...spec, ...changes }, description, { engine: "cpu", memoryBytes });

  test("is told up to the first with which all fit", () => {
    const { stageBytes, stagesMax } = sizes(1e12);
    expect(stagesMax).toBe(4);
    expect(stageBytes).toEqual([[bytesNeeded(forecastMemory(spec, description), { engine: "cpu" })]]);
    const limited = sizes(stageBytes[0]![0]! - 1);
    expect(limited.stageBytes.map((row) => row.length)).toEqual([1, 2]);
    const staged = { ...spec, stages: 2 };
    expect(limited.stageBytes[1]).toEqual(
      cutIntoStages(staged, description).map((range) =>
        bytesNeeded(forecastStage(staged, description, range), { engine: "cpu" }),
      ),
    );
    expect(Math.max(...limited.stageBytes[1]!.map(Number)) - 200 * 2 ** 20).toBeLessThan(whole);
  });

  test("a number at which a stage does not fit the GPU is none, whatever the machine has", () => {
    const gpu = (gpuMemoryBytes: number) =>
      stageSizes(spec, description, { engine: "tensorflow", memoryBytes: 1e12, gpuMemoryBytes }).stageBytes;
    expect(gpu(1e12)).toHaveLength(1);
    const { engineParameters, activations, evaluation } = forecastMemory(spec, description);
    const bytes = 512 * 2 ** 20 + engineParameters + Math.max(activations, evaluation);
    expect(gpu(bytes)).toHaveLength(1);
    expect(gpu(bytes - 1)[0]).toEqual([null]);
    expect(gpu(bytes - 1)[1]).toEqual([expect.any(Number), expect.any(Number)]);
  });

  test("ends where the job has no more agents, or the model no more places", () => {
    expect(sizes(1).stageBytes.map((row) => row.length)).toEqual([1, 2, 3, 4]);
    expect(sizes(1, { workers: { min: 1, max: 64, spares: 0 } }).stagesMax).toBe(4);
    expect(sizes(1, { workers: { min: 1, max: 2, spares: 0 } }).stagesMax).toBe(2);
  });
});
