import { describe, expect, test } from "vitest";
import { modelOf } from "../../../agent/models/library.ts";
import { checkMemory, forecastMemory } from "../../../agent/training/memory-forecast.ts";
import { cutIntoStages, forecastStage } from "../../../agent/training/stages/stage-cut.ts";
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

  test("more stages than places to cut are refused with the number of places", () => {
    expect(() => cutIntoStages(specOf(9), description)).toThrow(
      expect.objectContaining({
        code: "JOB_INVALID",
        message: expect.stringMatching(/^stages: 9, .* 4 at most/),
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
