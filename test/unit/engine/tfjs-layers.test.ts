import * as tf from "@tensorflow/tfjs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openEngine } from "../../../agent/engine/engine.ts";
import type { Engine } from "../../../agent/engine/port.ts";
import { modelOf } from "../../../agent/models/library.ts";
import { relativeError } from "../../contract/engines.ts";

/** A topology that TF.js has written is computed as TF.js computes it: the same weights, the same answer. */
let engine: Engine;
beforeAll(async () => {
  engine = await openEngine({ prefer: "cpu" });
});
afterAll(() => engine.close());

const image = [6, 5, 4];
const { layers } = tf;
type Made = { apply(x: tf.SymbolicTensor | tf.SymbolicTensor[]): unknown };
const kinds: readonly (readonly [string, () => Made])[] = [
  // TF.js leaves the depth multiplier of this layer out of what it writes.
  ["SeparableConv2D", () => layers.separableConv2d({ filters: 3, kernelSize: [3, 2], activation: "elu" })],
  [
    "SeparableConv2D with strides",
    () => layers.separableConv2d({ filters: 3, kernelSize: 3, strides: 2, padding: "same", useBias: false }),
  ],
  [
    "DepthwiseConv2D",
    () => layers.depthwiseConv2d({ kernelSize: 3, depthMultiplier: 2, activation: "relu" }),
  ],
  ["ZeroPadding2D", () => layers.zeroPadding2d({ padding: [[1, 2], [0, 3]] })], // biome-ignore format: one side a pair
  ["UpSampling2D", () => layers.upSampling2d({ size: [2, 3] })],
  ["ELU", () => layers.elu()],
  ["LayerNormalization", () => layers.layerNormalization()],
  ["BatchNormalization", () => layers.batchNormalization()],
  ["Average", () => ofBoth((both) => layers.average().apply(both))],
  ["Maximum", () => ofBoth((both) => layers.maximum().apply(both))],
  ["Minimum", () => ofBoth((both) => layers.minimum().apply(both))],
];
/** The image, and what tanh makes of it. */
const ofBoth = (merge: (both: tf.SymbolicTensor[]) => unknown): Made => ({
  apply: (x) => {
    const whole = x as tf.SymbolicTensor;
    return merge([whole, layers.activation({ activation: "tanh" }).apply(whole) as tf.SymbolicTensor]);
  },
});

test.each(kinds)("%s", async (_name, make) => {
  const input = tf.input({ shape: image });
  const top = layers.flatten().apply(make().apply(input) as tf.SymbolicTensor);
  const answer = layers.dense({ units: 3, activation: "softmax" }).apply(top) as tf.SymbolicTensor;
  const reference = tf.model({ inputs: input, outputs: answer });
  const topology = reference.toJSON(null, false) as unknown as Record<string, unknown>;
  const spec = { architecture: "layers" as const, topology };
  const shape = { inputShape: image, target: { kind: "class" as const, classCount: 3 } };
  const model = engine.openModel(spec, { ...shape, seed: 5 });
  const parameters = new Float32Array(model.description.parameterCount);
  await model.readParameters(parameters);
  const tensors = model.layout.map(({ name, shape: sides, offset, elementCount }) => ({
    name,
    shape: sides,
    data: parameters.slice(offset, offset + elementCount),
  }));
  // Each by its name: TF.js lists running averages behind all others.
  for (const weight of reference.weights) {
    const { data, shape: sides } = tensors.find(({ name }) => name === weight.originalName)!;
    weight.write(tf.tensor(data, [...sides]));
  }
  const data = Float32Array.from({ length: 2 * 6 * 5 * 4 }, (_, i) => Math.sin(i));
  const { description } = modelOf(spec, shape);
  const shard = engine.openShard(description, { fromLayer: 0, toLayer: description.layers.length }, tensors);
  const ours = await shard.infer({ shape: [2, ...image], data });
  const theirs = reference.predict(tf.tensor(data, [2, ...image])) as tf.Tensor;
  expect(ours.shape).toEqual(theirs.shape);
  expect(relativeError(ours.data, await theirs.data())).toBeLessThan(1e-5);
  shard.close();
  model.close();
  reference.dispose();
});
