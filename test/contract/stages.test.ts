import { setImmediate as nextTurn } from "node:timers/promises";
import { afterAll, describe, expect, it } from "vitest";
import type { Engine, StageModel } from "../../agent/engine/port.ts";
import { createOptimizer } from "../../agent/training/optimizer.ts";
import {
  evaluateMicroBatch,
  type MicroBatch,
  trainMicroBatches,
} from "../../agent/training/stages/pipeline.ts";
import { initialState, parameterCountOf } from "../../agent/training/training-state.ts";
import { targetLength } from "../../protocol/data-schema.ts";
import { cutIntoShards } from "../../protocol/layer-cut.ts";
import { memoryColumns } from "../fixtures/columns.ts";
import { batchFor, type ModelCase, modelCases, presentEngines, relativeError } from "./engines.ts";

/**
 * A model that is trained by layers, by several, is the model that one trains: the same beginning, the same loss and the
 * same parameters after some steps of the optimizer, but for the order of sums.
 */
const engines = await presentEngines();
afterAll(() => {
  for (const engine of engines) engine.close();
});

const never = new AbortController().signal;
const seed = 3;
/** cpu and wasm compute a layer to the same bits wherever it is; one replica a stage leaves the order of sums as it is. */
const toleranceOf = (engine: Engine): number => (["cpu", "wasm"].includes(engine.name) ? 0 : 1e-5);
const optimizerSpec = { kind: "adam", learningRate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-7 } as const;
const microBatchSize = 3;
const exampleCount = 8;

/** The rows of a step, by which a data set would be read. */
function partOf({ shape }: ModelCase, { step, examples }: MicroBatch) {
  const whole = batchFor(shape, exampleCount, 100 + step);
  const [first, last] = [examples[0]!, examples.at(-1)! + 1];
  const inputSize = whole.inputs.length / exampleCount;
  return {
    exampleCount: examples.length,
    inputs: whole.inputs.slice(first * inputSize, last * inputSize),
    targets: whole.targets.slice(first * targetLength(shape.target), last * targetLength(shape.target)),
  };
}

function microBatchesOf(step: number): MicroBatch[] {
  const all = Uint32Array.from({ length: exampleCount }, (_, i) => i);
  return Array.from({ length: Math.ceil(exampleCount / microBatchSize) }, (_, i) => ({
    step,
    examples: all.subarray(i * microBatchSize, (i + 1) * microBatchSize),
  }));
}

/** A state and its optimizer, for a model or a part of one. */
async function trainable(model: Pick<StageModel, "layout" | "readParameters" | "writeParameters">) {
  const optimizer = createOptimizer(optimizerSpec, model.layout);
  const state = initialState(parameterCountOf(model.layout), optimizer);
  await model.readParameters(state.parameters);
  return {
    state,
    apply: (sum: Float32Array, targetCount: number) => {
      const mean = sum.map((value) => value / targetCount);
      optimizer.apply(state, mean, optimizerSpec.learningRate);
      model.writeParameters(state.parameters);
    },
  };
}

/** One process, micro-batch after micro-batch. */
async function trainWhole(engine: Engine, modelCase: ModelCase, steps: number) {
  const model = engine.openModel(modelCase.spec, { ...modelCase.shape, seed });
  const { state, apply } = await trainable(model);
  const losses: number[] = [];
  for (let step = 0; step < steps; step++) {
    const sum = new Float32Array(state.parameters.length);
    const part = new Float32Array(state.parameters.length);
    let [lossSum, targetCount] = [0, 0];
    for (const of of microBatchesOf(step)) {
      const result = await model.gradient({ ...partOf(modelCase, of), ...of }, part);
      for (let i = 0; i < sum.length; i++) sum[i]! += part[i]!;
      lossSum += result.lossSum;
      targetCount += result.targetCount;
    }
    losses.push(lossSum / targetCount);
    apply(sum, targetCount);
  }
  const evaluation = await model.evaluate(partOf(modelCase, microBatchesOf(0)[0]!));
  const { layout, description } = model;
  model.close();
  return { parameters: state.parameters, losses, evaluation, layout, description };
}

/** The stages side by side, each with its own weights. */
async function trainStages(engine: Engine, modelCase: ModelCase, stageCount: number, steps: number) {
  const columns = memoryColumns(stageCount);
  const losses: number[] = [];
  const stages = columns.map((column) => {
    const model = engine.openStage(modelCase.spec, {
      ...{ ...modelCase.shape, seed },
      place: ({ layers }) => cutIntoShards(layers, stageCount)[column.stage]!,
    });
    const load = async (of: MicroBatch) => partOf(modelCase, of);
    return { column, model, load, nextTurn: () => nextTurn() };
  });
  const trained = await Promise.all(
    stages.map(async (parts) => {
      const { column, model } = parts;
      const { state, apply } = await trainable(model);
      const into = {
        gradient: new Float32Array(state.parameters.length),
        part: new Float32Array(state.parameters.length),
      };
      for (let step = 0; step < steps; step++) {
        const { lossSum, targetCount } = await trainMicroBatches(parts, microBatchesOf(step), into, never);
        const totals = Float64Array.of(lossSum, targetCount);
        await column.sum(totals, never);
        if (column.isFirst) losses.push(totals[0]! / totals[1]!);
        apply(into.gradient, totals[1]!);
      }
      const evaluation = await evaluateMicroBatch(
        { ...parts, of: microBatchesOf(0)[0]! },
        { details: false },
        never,
      );
      return { parameters: state.parameters, layout: model.layout, evaluation };
    }),
  );
  for (const { model } of stages) model.close();
  return {
    losses,
    parameters: Float32Array.from(trained.flatMap(({ parameters }) => [...parameters])),
    names: trained.flatMap(({ layout }) => layout.map(({ name }) => name)),
    evaluation: trained.at(-1)!.evaluation,
  };
}

describe.each(engines.map((engine) => [engine.name, engine] as const))(
  "stages on engine %s",
  (_name, engine) => {
    it.each(modelCases.map((modelCase) => [modelCase.name, modelCase] as const))(
      "%s: cut in two, in three and behind each layer, it trains as in one process",
      async (_case, modelCase) => {
        const before = engine.tensorCount();
        const tolerance = toleranceOf(engine);
        const whole = await trainWhole(engine, modelCase, 3);
        const { layers } = whole.description;
        const counts = new Set([2, 3, layers.length].filter((count) => count <= layers.length));
        for (const stageCount of counts) {
          const staged = await trainStages(engine, modelCase, stageCount, 3);
          expect(staged.names).toEqual(whole.layout.map(({ name }) => name));
          expect(relativeError(staged.losses, whole.losses)).toBeLessThanOrEqual(tolerance);
          expect(relativeError(staged.parameters, whole.parameters)).toBeLessThanOrEqual(tolerance);
          expect(staged.evaluation!.correctCount).toBe(whole.evaluation.correctCount);
          expect(relativeError([staged.evaluation!.lossSum], [whole.evaluation.lossSum])).toBeLessThanOrEqual(
            tolerance,
          );
        }
        expect(engine.tensorCount()).toBe(before);
      },
    );
  },
);
