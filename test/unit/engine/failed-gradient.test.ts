import { describe, expect, test } from "vitest";
import { openCpu } from "../../../agent/engine/cpu.ts";
import { openTrainableModel } from "../../../agent/engine/model.ts";
import type { Operations, Runtime } from "../../../agent/engine/runtime.ts";
import { openStageModel } from "../../../agent/engine/stage-model.ts";
import { openWasm } from "../../../agent/engine/wasm.ts";
import { modelOf } from "../../../agent/models/library.ts";

/** With running averages, whose changes are kept beyond the forward pass. */
const topology = {
  class_name: "Sequential",
  config: {
    name: "normalised",
    layers: [
      { class_name: "Dense", config: { name: "first", units: 4, activation: "relu" } },
      { class_name: "BatchNormalization", config: { name: "norm" } },
      { class_name: "Dense", config: { name: "last", units: 2, activation: "softmax" } },
    ],
  },
};
const shape = { inputShape: [3], target: { kind: "class" as const, classCount: 2 } };
const model = modelOf({ architecture: "layers", topology }, shape);
const batch = {
  exampleCount: 2,
  inputs: Float32Array.of(1, 2, 3, 4, 5, 6),
  targets: Float32Array.of(0, 1),
};

/** Where a step fails: in the forward pass behind the averages, or at the first operation of the way back. */
const failures: readonly [string, (runtime: Runtime) => Partial<Operations>][] = [
  [
    "forward",
    () => ({
      crossEntropy: () => {
        throw new Error("planted");
      },
    }),
  ],
  [
    "backward",
    ({ tf, operations }) => ({
      crossEntropy: (logits, labels) => {
        const { loss, correct } = operations.crossEntropy(logits, labels);
        const failing = tf.customGrad((x) => ({
          value: tf.clone(x as typeof loss),
          gradFunc: () => {
            throw new Error("planted");
          },
        }));
        return { loss: failing(loss), correct };
      },
    }),
  ],
];

describe.each([
  ["cpu", openCpu],
  ["wasm", openWasm],
] as const)("a gradient that fails on %s", (_name, open) => {
  test.each(failures)(
    "on the way %s leaves no tensor behind, and the next one is right",
    async (_way, planted) => {
      const runtime = await open();
      const broken: Runtime = { ...runtime, operations: { ...runtime.operations, ...planted(runtime) } };
      const range = { fromLayer: 0, toLayer: model.graph.layers.length };
      const parts = { parameters: new Float32Array(model.description.parameterCount), inputs: undefined };
      const [whole, stage, sound] = [
        openTrainableModel(broken, model, 1),
        openStageModel(broken, model, { range, seed: 1 }),
        openTrainableModel(runtime, model, 1),
      ];
      const gradient = new Float32Array(model.description.parameterCount);
      await sound.gradient(batch, gradient);
      const before = runtime.tf.memory();
      for (let attempt = 0; attempt < 3; attempt++) {
        await expect(whole.gradient(batch, new Float32Array(gradient.length))).rejects.toThrow("planted");
        await expect(stage.gradient(batch, parts)).rejects.toThrow("planted");
      }
      expect(runtime.tf.memory()).toEqual(before);
      const again = new Float32Array(gradient.length);
      await sound.gradient(batch, again);
      expect(again).toEqual(gradient);
      expect(runtime.tf.memory()).toEqual(before);
      for (const each of [whole, stage, sound]) each.close();
    },
  );
});
