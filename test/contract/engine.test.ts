import { afterAll, describe, expect, it } from "vitest";
import type { Batch, Engine, EvaluationResult, TrainableModel } from "../../agent/engine/port.ts";
import { createSynchronization } from "../../agent/training/synchronization/synchronization.ts";
import { initialState } from "../../agent/training/training-state.ts";
import { shapeAcross } from "../../protocol/layer-cut.ts";
import type { Objective } from "../../protocol/objective.ts";
import { type OptimizerSpec, optimizerSpecSchema } from "../../protocol/training-spec.ts";
import { batchFor, type ModelCase, modelCases, numbers, presentEngines, relativeError } from "./engines.ts";

/**
 * What every engine promises, run on each that this machine has. f32 sums in another order differ by about 1e-6 of the
 * largest number; `tolerance` leaves room for GPUs and still catches any wrong term.
 */
const tolerance = 1e-4;
/** Of the longest move in three steps of an optimizer: parameters are rounded to 1e-7 of themselves, and move by 1e-3. */
const pathTolerance = 1e-3;
/** Models that are trained with every optimizer: the others share what differs between engines. */
const withAllOptimizers = new Set(["cnn", "residual-cnn", "transformer-lm"]);

/** Losses that a job may declare, on a model with such a target. */
const declared: readonly { readonly model: string; readonly objective: Objective }[] = [
  { model: "cnn", objective: { kind: "cross-entropy", labelSmoothing: 0.1, classWeights: [1, 0, 2.5, 0.5] } },
  { model: "transformer-lm", objective: { kind: "cross-entropy", labelSmoothing: 0.2 } },
  { model: "tabular", objective: { kind: "binary-cross-entropy", positiveWeight: 2.5 } },
  { model: "two-tower", objective: { kind: "mae" } },
  { model: "two-tower", objective: { kind: "huber", delta: 0.3 } },
];

const engines = await presentEngines();
const cpu = engines[0]!;
afterAll(() => {
  for (const engine of engines) engine.close();
});

function openOn(engine: Engine, { spec, shape }: ModelCase, seed = 3): TrainableModel {
  return engine.openModel(spec, { ...shape, seed });
}

async function parametersOf(model: TrainableModel): Promise<Float32Array> {
  const parameters = new Float32Array(model.description.parameterCount);
  await model.readParameters(parameters);
  return parameters;
}

async function gradientOf(model: TrainableModel, batch: Batch) {
  const gradient = new Float32Array(model.description.parameterCount).fill(Number.NaN);
  return { ...(await model.gradient(batch, gradient)), gradient };
}

/** With the settings that a job has unless it says others. */
const optimizers: readonly OptimizerSpec[] = [
  { kind: "adam" },
  { kind: "sgd", momentum: 0.9 },
  { kind: "adamw" },
  { kind: "rmsprop", momentum: 0.5 },
].map((spec) => optimizerSpecSchema.parse(spec));

/** Steps as a rank takes them that is alone: how far each parameter goes, and the mean gradients on the way. */
async function train(
  model: TrainableModel,
  { shape }: ModelCase,
  optimizer: OptimizerSpec,
): Promise<{ readonly moves: Float32Array; readonly gradients: readonly Float32Array[] }> {
  const spec = { optimizer, synchronization: { kind: "every-step" } as const };
  const synchronization = createSynchronization(spec, model.layout);
  const state = initialState(model.description.parameterCount, synchronization);
  const start = await parametersOf(model);
  state.parameters.set(start);
  const gradients: Float32Array[] = [];
  for (let step = 0; step < trainedSteps; step++) {
    const { gradient, lossWeight } = await gradientOf(model, { ...batchFor(shape, 6, 100 + step), step });
    gradients.push(gradient.map((sum) => sum / lossWeight));
    const round = { contributorCount: 1, lossWeight, learningRate: optimizer.learningRate };
    synchronization.apply(state, gradient, round);
    model.writeParameters(state.parameters);
  }
  const end = await parametersOf(model);
  return { moves: end.map((value, i) => value - start[i]!), gradients };
}
const trainedSteps = 3;

/**
 * The largest difference between two ways of the parameters, as a share of the longest move. Optimizers that divide each
 * gradient by its own magnitude take a step of full length along what may be rounding (the bias of attention's keys has no
 * gradient but that): a step of theirs is off by the learning rate times the error of the gradient over its magnitude,
 * and so much is forgiven. `gradientError` is a share of the largest gradient.
 */
function pathError(
  actual: Float32Array,
  { moves, gradients }: Awaited<ReturnType<typeof train>>,
  { kind, learningRate }: OptimizerSpec,
): number {
  const largest = (values: Float32Array) =>
    values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  const scales = gradients.map(largest);
  const longest = largest(moves);
  const forgiven = (i: number): number =>
    gradients.reduce((sum, gradient, step) => {
      const share = (gradientError * scales[step]!) / Math.abs(gradient[i]!);
      return sum + 2 * learningRate * Math.min(1, share);
    }, 0);
  return moves.reduce((worst, move, i) => {
    const error = Math.abs(actual[i]! - move) - (kind === "sgd" ? 0 : forgiven(i));
    return Number.isNaN(error) ? Number.POSITIVE_INFINITY : Math.max(worst, error / longest);
  }, 0);
}
const gradientError = 1e-6;

/** The weights of a model as a checkpoint holds them. */
async function tensorsOf(model: TrainableModel) {
  const parameters = await parametersOf(model);
  return model.layout.map(({ name, shape, offset, elementCount }) => ({
    name,
    shape,
    data: parameters.slice(offset, offset + elementCount),
  }));
}

describe.each(engines.map((engine) => [engine.name, engine] as const))("engine %s", (_name, engine) => {
  it("says what it is and why", () => {
    expect(engine.reason).toContain(engine.name);
    expect(engine.candidates.filter(({ usable }) => usable).map(({ name }) => name)).toEqual([engine.name]);
  });

  it("measures a speed", async () => {
    expect(await engine.measureGflops()).toBeGreaterThan(0.01);
  });

  describe.each(modelCases.map((modelCase) => [modelCase.name, modelCase] as const))(
    "%s",
    (_case, modelCase) => {
      it("begins with the same bits as the reference, from the seed alone", async () => {
        const [model, other, reference] = [
          openOn(engine, modelCase),
          openOn(engine, modelCase, 4),
          openOn(cpu, modelCase),
        ];
        expect(await parametersOf(model)).toEqual(await parametersOf(reference));
        expect(await parametersOf(other)).not.toEqual(await parametersOf(reference));
        for (const each of [model, other, reference]) each.close();
      });

      it("has the loss, the hits and the gradient of the reference", async () => {
        const [model, reference] = [openOn(engine, modelCase), openOn(cpu, modelCase)];
        const batch = batchFor(modelCase.shape, 5, 11);
        const [actual, expected] = [await gradientOf(model, batch), await gradientOf(reference, batch)];
        expect(relativeError(actual.gradient, expected.gradient)).toBeLessThan(tolerance);
        expect(relativeError([actual.lossSum], [expected.lossSum])).toBeLessThan(tolerance);
        expect(actual.correctCount).toBe(expected.correctCount);
        const [evaluation, wanted] = [await model.evaluate(batch), await reference.evaluate(batch)];
        expect(relativeError([evaluation.lossSum], [wanted.lossSum])).toBeLessThan(tolerance);
        expect(evaluation.correctCount).toBe(wanted.correctCount);
        if (!modelCase.trainsOtherwise)
          expect(relativeError([evaluation.lossSum], [actual.lossSum])).toBeLessThan(tolerance);
        for (const each of [model, reference]) each.close();
      });

      it("tells what of a gradient is final, from its end, and comes to the same numbers", async () => {
        const model = openOn(engine, modelCase);
        const batch = batchFor(modelCase.shape, 5, 11);
        const { gradient: expected } = await gradientOf(model, batch);
        const tensorCount = engine.tensorCount();
        const gradient = new Float32Array(expected.length).fill(Number.NaN);
        // A GPU's threads add to one place in whatever order they come.
        const expectSame = (one: Float32Array, other: Float32Array) =>
          engine.name === "webgpu"
            ? expect(relativeError(one, other)).toBeLessThan(1e-6)
            : expect(one).toEqual(other);
        const starts: number[] = [];
        await model.gradient(batch, gradient, (start) => {
          expect(start).toBeLessThan(starts.at(-1) ?? gradient.length);
          expectSame(gradient.subarray(start), expected.subarray(start));
          starts.push(start);
        });
        expectSame(gradient, expected);
        // Where numbers can be read at once, every parameter is told; the others, and running averages, wait for the whole.
        const readsAtOnce = engine.name === "wasm" || engine.name === "cpu";
        const isTold = readsAtOnce && !model.layout.some(({ isAverage }) => isAverage);
        expect(starts.at(-1)).toBe(isTold ? 0 : undefined);
        expect(engine.tensorCount()).toBe(tensorCount);
        model.close();
      });

      it.each(optimizers.filter(({ kind }) => kind === "adam" || withAllOptimizers.has(modelCase.name)))(
        "goes where the reference goes in three steps of $kind",
        async (optimizer) => {
          const [model, reference] = [openOn(engine, modelCase), openOn(cpu, modelCase)];
          const { moves } = await train(model, modelCase, optimizer);
          const expected = await train(reference, modelCase, optimizer);
          expect(expected.moves.some((move) => move !== 0)).toBe(true);
          expect(pathError(moves, expected, optimizer)).toBeLessThan(pathTolerance);
          for (const each of [model, reference]) each.close();
        },
      );

      it.skipIf(modelCase.trainsOtherwise === "by batch")(
        "adds up: the gradient of a batch is the sum over its parts",
        async () => {
          const model = openOn(engine, modelCase);
          const whole = batchFor(modelCase.shape, 5, 23);
          const inputSize = whole.inputs.length / 5;
          const head = { ...whole, exampleCount: 2, examples: [0, 1] };
          const tail = {
            exampleCount: 3,
            examples: [2, 3, 4],
            inputs: whole.inputs.subarray(2 * inputSize),
            targets: whole.targets.subarray((2 * whole.targets.length) / 5),
          };
          const [all, first, second] = [
            await gradientOf(model, whole),
            await gradientOf(model, head),
            await gradientOf(model, tail),
          ];
          const sum = first.gradient.map((value, i) => value + second.gradient[i]!);
          expect(relativeError(sum, all.gradient)).toBeLessThan(tolerance);
          expect(first.lossSum + second.lossSum).toBeCloseTo(all.lossSum, 3);
          expect(first.correctCount + second.correctCount).toBe(all.correctCount);
          model.close();
        },
      );

      it("gives zeros for no examples", async () => {
        const model = openOn(engine, modelCase);
        const { gradient, lossSum, correctCount } = await gradientOf(model, batchFor(modelCase.shape, 0, 1));
        expect(gradient.every((value) => value === 0)).toBe(true);
        expect({ lossSum, correctCount }).toEqual({ lossSum: 0, correctCount: 0 });
        model.close();
      });

      it("infers through shards exactly as through the whole, in probabilities", async () => {
        const model = openOn(engine, modelCase);
        const { description } = model;
        const tensors = await tensorsOf(model);
        const count = description.layers.length;
        const input = {
          shape: [4, ...modelCase.shape.inputShape],
          data: batchFor(modelCase.shape, 4, 5).inputs,
        };
        const whole = engine.openShard(description, { fromLayer: 0, toLayer: count }, tensors);
        const expected = await whole.infer(input);
        let hop = input;
        for (let fromLayer = 0; fromLayer < count; fromLayer++) {
          const range = { fromLayer, toLayer: fromLayer + 1 };
          const shard = engine.openShard(description, range, tensors);
          hop = await shard.infer(hop);
          expect(hop.shape).toEqual([4, ...shapeAcross(description, range.toLayer)]);
          shard.close();
        }
        expect(hop).toEqual(expected);
        expect(expected.shape).toEqual([4, ...description.outputShape]);
        const { target } = modelCase.shape;
        for (let row = 0; target.kind === "class" && row < 4; row++) {
          const probabilities = expected.data.subarray(
            row * target.classCount,
            (row + 1) * target.classCount,
          );
          expect(probabilities.reduce((sum, value) => sum + value, 0)).toBeCloseTo(1, 5);
        }
        for (const each of [model, whole]) each.close();
      });
    },
  );

  it.each(declared)(
    "computes the loss of $objective.kind, declared, as the reference does: %#",
    async (given) => {
      const { spec, shape } = modelCases.find(({ name }) => name === given.model)!;
      const [model, reference] = [engine, cpu].map((each) =>
        each.openModel(spec, { ...shape, seed: 3, objective: given.objective }),
      ) as [TrainableModel, TrainableModel];
      const batch = { ...batchFor(shape, 5, 11), step: 2 };
      const tensorCount = engine.tensorCount();
      const [actual, expected] = [await gradientOf(model, batch), await gradientOf(reference, batch)];
      expect(relativeError(actual.gradient, expected.gradient)).toBeLessThan(tolerance);
      const [told, wanted] = [await model.evaluate(batch, true), await reference.evaluate(batch, true)];
      expect(Object.keys(told)).toEqual(Object.keys(wanted));
      for (const [name, value] of Object.entries(wanted)) {
        const own = told[name as keyof EvaluationResult]!;
        const [one, other] = [own, value].map((each) => (typeof each === "number" ? [each] : each));
        expect(relativeError(one!, other!), name).toBeLessThan(tolerance);
      }
      expect(engine.tensorCount()).toBe(tensorCount);
      for (const each of [model, reference]) each.close();
    },
  );

  it("keeps no tensor: many calls leave as many as before, closing leaves none", async () => {
    // A software GPU takes half a second for each.
    const callCount = engine.name === "webgpu" ? 10 : 100;
    const atFirst = engine.tensorCount();
    const modelCase = modelCases[1]!;
    const model = openOn(engine, modelCase);
    const shard = engine.openShard(model.description, { fromLayer: 0, toLayer: 2 }, await tensorsOf(model));
    const batch = batchFor(modelCase.shape, 3, 1);
    const open = engine.tensorCount();
    for (let i = 0; i < callCount; i++) {
      await gradientOf(model, batch);
      await model.evaluate(batch);
      await shard.infer({ shape: [3, ...modelCase.shape.inputShape], data: batch.inputs });
      model.writeParameters(await parametersOf(model));
    }
    expect(engine.tensorCount()).toBe(open);
    for (const each of [model, shard]) each.close();
    expect(engine.tensorCount()).toBe(atFirst);
  });

  it("keeps its parameters when the caller reuses the array it wrote from", async () => {
    const model = openOn(engine, modelCases[1]!);
    const from = numbers(model.description.parameterCount, 9);
    const copy = from.slice();
    model.writeParameters(from);
    from.fill(0);
    expect(await parametersOf(model)).toEqual(copy);
    model.close();
  });

  it("refuses a label that is no class", async () => {
    const model = openOn(engine, modelCases[1]!);
    const batch = batchFor(modelCases[1]!.shape, 2, 1);
    batch.targets[1] = 10;
    await expect(gradientOf(model, batch)).rejects.toMatchObject({ code: "DATA_INVALID" });
    model.close();
  });

  it("refuses weights and inputs that do not fit, by name", async () => {
    const model = openOn(engine, modelCases[1]!);
    const { description } = model;
    const tensors = await tensorsOf(model);
    const range = { fromLayer: 0, toLayer: 2 };
    const open = engine.tensorCount();
    const withoutBias = tensors.filter(({ name }) => name !== "dense_1/bias");
    expect(() => engine.openShard(description, range, withoutBias)).toThrow(/lack dense_1\/bias/);
    const turned = tensors.map((tensor) => ({ ...tensor, shape: tensor.shape.toReversed() }));
    expect(() => engine.openShard(description, range, turned)).toThrow(/dense_1\/kernel has shape/);
    for (const wrong of [
      { fromLayer: 2, toLayer: 2 },
      { fromLayer: -1, toLayer: 2 },
      { fromLayer: 0, toLayer: 9 },
    ]) {
      expect(() => engine.openShard(description, wrong, tensors)).toThrow(/no shard of layers/);
    }
    expect(engine.tensorCount()).toBe(open);
    const shard = engine.openShard(description, range, tensors);
    const bad = { shape: [1, 5, 7], data: new Float32Array(35) };
    await expect(shard.infer(bad)).rejects.toMatchObject({ code: "REQUEST_INVALID" });
    const short = { shape: [1, 7, 5], data: new Float32Array(34) };
    await expect(shard.infer(short)).rejects.toMatchObject({ code: "REQUEST_INVALID" });
    expect(await shard.infer({ shape: [0, 7, 5], data: new Float32Array(0) })).toEqual({
      shape: [0, 33],
      data: new Float32Array(0),
    });
    for (const each of [model, shard]) each.close();
  });
});
