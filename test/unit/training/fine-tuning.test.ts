import * as tf from "@tensorflow/tfjs";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { Engine, TrainableModel } from "../../../agent/engine/port.ts";
import { adoptWeights, trainedPart } from "../../../agent/training/fine-tuning.ts";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import { decodeSafetensors } from "../../../protocol/safetensors.ts";
import { openRank, type Rank, runAll, tinyData } from "../../fixtures/trainers.ts";

const data = tinyData(37);
const base: Partial<JobSpec> = { batchSize: 8, epochs: 2 };

let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ prefer: "cpu" });
});
afterAll(() => engine.close());

async function open(spec: Partial<JobSpec>, wrap?: (model: TrainableModel) => TrainableModel): Promise<Rank> {
  const rank = await openRank({ engine, data, spec: { ...base, ...spec }, ...(wrap ? { wrap } : {}) });
  onTestFinished(() => rank.model.close());
  return rank;
}

const parametersOf = async (model: TrainableModel) => {
  const parameters = new Float32Array(model.description.parameterCount);
  await model.readParameters(parameters);
  return parameters;
};
const slice = (parameters: Float32Array, model: TrainableModel, name: string) => {
  const { offset, elementCount } = model.layout.find((slot) => slot.name === name)!;
  return parameters.slice(offset, offset + elementCount);
};

describe("from", () => {
  test("a model begins with the weights of a version", async () => {
    const teacher = await open({});
    await runAll([teacher]);
    const student = await open({ seed: 99 });
    await adoptWeights(student.model, await teacher.trainer.encodeWeights(), { from: "digits@1" });
    expect(await parametersOf(student.model)).toEqual(teacher.trainer.state.parameters);
  });

  test("a layer of another shape is refused by name, unless it is reset", async () => {
    const teacher = await open({ model: { architecture: "mlp", hidden: [7] } });
    const weights = await teacher.trainer.encodeWeights();
    const student = await open({ model: { architecture: "mlp", hidden: [7, 4] }, seed: 99 });
    const names = student.model.layout.map(({ name }) => name);
    await expect(adoptWeights(student.model, weights, { from: "digits@1" })).rejects.toMatchObject({
      code: "JOB_INVALID",
      message: expect.stringMatching(/name its layer in reset$/),
    });
    const before = await parametersOf(student.model);
    const layers = names.map((name) => name.slice(0, name.indexOf("/")));
    const reset = [...new Set(layers.slice(2))];
    await adoptWeights(student.model, weights, { from: "digits@1", reset });
    const after = await parametersOf(student.model);
    const taught = slice(teacher.trainer.state.parameters, teacher.model, names[0]!);
    expect(slice(after, student.model, names[0]!)).toEqual(taught);
    expect(slice(after, student.model, names.at(-2)!)).toEqual(slice(before, student.model, names.at(-2)!));
  });
});

describe("freeze", () => {
  test("frozen layers stay as they are, and exist nowhere in the training", async () => {
    const whole = { model: undefined as TrainableModel | undefined };
    const frozenOf = (model: TrainableModel) => {
      whole.model = model;
      return trainedPart(model, [`${model.layout[0]!.name.split("/")[0]}`]);
    };
    const ranks = [await open({}, frozenOf), await open({}, frozenOf)];
    const model = whole.model!;
    const before = await parametersOf(model);
    await runAll(ranks);
    const after = await parametersOf(model);
    for (const [i, { name }] of model.layout.entries()) {
      const changed = !slice(after, model, name).every((value, j) => value === slice(before, model, name)[j]);
      expect([name, changed]).toEqual([name, i >= 2]);
    }
    const frozenCount = model.layout.slice(0, 2).reduce((sum, { elementCount }) => sum + elementCount, 0);
    const { state, memory } = ranks[0]!.trainer;
    expect(state.parameters).toHaveLength(before.length - frozenCount);
    expect(state.slots.firstMoment).toHaveLength(before.length - frozenCount);
    expect(memory).toBeDefined();
    expect(ranks[0]!.hashes).toEqual(ranks[1]!.hashes);
  });

  test("the part that is trained follows the curve of a model of which nothing is frozen but by a rate of zero", async () => {
    const plain = await open({});
    const part = trainedPart(plain.model, [plain.model.layout[2]!.name]);
    const into = new Float32Array(part.layout.reduce((sum, { elementCount }) => sum + elementCount, 0));
    await part.readParameters(into);
    const batch = { exampleCount: 8, inputs: new Float32Array(8 * 16), targets: new Float32Array(8) };
    data.train.gather([0, 1, 2, 3, 4, 5, 6, 7], batch.inputs, batch.targets);
    const whole = new Float32Array(plain.model.description.parameterCount);
    await plain.model.gradient(batch, whole);
    await part.gradient(batch, into);
    for (const slot of part.layout)
      expect(into.slice(slot.offset, slot.offset + slot.elementCount)).toEqual(
        slice(whole, plain.model, slot.name),
      );
  });

  test("what only frozen layers need is not computed", async () => {
    const shape = { inputShape: [12, 12, 1], target: { kind: "class", classCount: 3 } } as const;
    const model = engine.openModel(
      { architecture: "cnn", filters: [2, 3], kernelSize: 3, hidden: [] },
      { ...shape, seed: 1 },
    );
    onTestFinished(() => model.close());
    const batch = { exampleCount: 2, inputs: new Float32Array(288).fill(0.5), targets: new Float32Array(2) };
    const gradient = new Float32Array(model.description.parameterCount).fill(7);
    const backward = async (trained: TrainableModel, into: Float32Array) => {
      const { kernels } = await tf.profile(() => trained.gradient(batch, into) as never);
      return kernels.filter(({ name }) => name.startsWith("Conv2DBackprop")).map(({ name }) => name);
    };
    expect(await backward(model, gradient)).toHaveLength(3); // both filters, and one input
    const part = trainedPart(model, ["conv2d_1"]);
    const own = new Float32Array(part.layout.reduce((sum, { elementCount }) => sum + elementCount, 0));
    await part.readParameters(own);
    expect(await backward(part, own)).toEqual(["Conv2DBackpropFilter"]);
  });

  test("a version of a part-trained model holds all weights", async () => {
    const kept: { model?: TrainableModel } = {};
    const rank = await open({}, (model) => {
      kept.model = model;
      return trainedPart(model, ["*bias"]);
    });
    const whole = kept.model!;
    await runAll([rank]);
    expect(rank.trainer.state.parameters.length).toBeLessThan(whole.description.parameterCount);
    const { tensors } = decodeSafetensors(await rank.trainer.encodeWeights());
    expect(tensors.map(({ name }) => name)).toEqual(whole.layout.map(({ name }) => name));
  });

  test("a layer in parts is frozen by its name, or by a part of it", () => {
    const names = ["both/forward/kernel", "both/backward/kernel", "end/kernel"];
    const slots = names.map((name, offset) => ({ name, shape: [1], offset, elementCount: 1 }));
    const model = { layout: slots, description: { parameterCount: 3 } } as unknown as TrainableModel;
    const left = (pattern: string) => trainedPart(model, [pattern]).layout.map(({ name }) => name);
    expect(left("both")).toEqual(["end/kernel"]);
    expect(left("both/forward")).toEqual(["both/backward/kernel", "end/kernel"]);
  });

  test("a name that is no layer's, and nothing left, are mistakes", async () => {
    const { model } = await open({});
    expect(() => trainedPart(model, ["conv_9"])).toThrow("no layer is named conv_9");
    expect(() => trainedPart(model, ["*"])).toThrow("nothing to train");
  });
});
