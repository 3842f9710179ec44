import { openCpu } from "../../agent/engine/cpu.ts";
import { openEngine } from "../../agent/engine/engine.ts";
import type { Engine, TrainableModel } from "../../agent/engine/port.ts";
import type { Runtime } from "../../agent/engine/runtime.ts";
import { openTensorflow } from "../../agent/engine/tensorflow.ts";
import { openWasm } from "../../agent/engine/wasm.ts";
import { openWebgpu } from "../../agent/engine/webgpu.ts";
import type { ModelSpec } from "../../protocol/job-spec.ts";

/** Every engine that works on this machine, the reference first. Backends that are not installed are left out. */
export async function presentEngines(): Promise<Engine[]> {
  const engines: Engine[] = [];
  for (const prefer of ["cpu", "wasm", "tensorflow", "webgpu"] as const) {
    try {
      engines.push(await openEngine({ prefer }));
    } catch (cause) {
      // cpu and wasm come with the package: without them there is nothing to test.
      if (prefer === "cpu" || prefer === "wasm") throw cause;
    }
  }
  return engines;
}

/** The backends behind the engines, for tests of single operations. The reference is first. */
export async function presentRuntimes(): Promise<Runtime[]> {
  const others = [openWasm, openTensorflow, () => openWebgpu({ allowSoftware: true })];
  const opened = await Promise.all(others.map((open) => open().catch(() => undefined)));
  return [await openCpu(), ...opened.filter((runtime) => runtime !== undefined)];
}

/** Numbers in [-0.5, 0.5), the same ones for the same seed. */
export function numbers(count: number, seed: number): Float32Array {
  let state = seed;
  return Float32Array.from({ length: count }, () => {
    state = (state * 16_807) % 2_147_483_647;
    return state / 2_147_483_647 - 0.5;
  });
}

export function batchFor(model: TrainableModel, exampleCount: number, seed: number) {
  const { inputShape, outputShape } = model.description;
  const size = inputShape.reduce((product, length) => product * length, exampleCount);
  const targets = Float32Array.from(
    { length: exampleCount },
    (_, i) => (i * 7 + seed) % (outputShape[0] ?? 1),
  );
  return { exampleCount, inputs: numbers(size, seed + 1), targets };
}

/** Largest difference, as a share of the largest number expected. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let worst = 0;
  let scale = 1e-12;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs((actual[i] ?? Number.NaN) - (expected[i] ?? 0));
    worst = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : Math.max(worst, difference);
    scale = Math.max(scale, Math.abs(expected[i] ?? 0));
  }
  return worst / scale;
}

const layer = (class_name: string, config: object) => ({ class_name, config });

export interface ModelCase {
  readonly name: string;
  readonly spec: ModelSpec;
  readonly inputShape: readonly number[];
  readonly classCount: number;
}

/** One of each architecture, small enough for the cpu engine, with most other layer kinds in the last. */
export const modelCases: readonly ModelCase[] = [
  {
    name: "cnn",
    spec: { architecture: "cnn", filters: [5, 6], kernelSize: 3, hidden: [9] },
    inputShape: [14, 13, 2],
    classCount: 4,
  },
  {
    name: "mlp",
    spec: { architecture: "mlp", hidden: [33, 17] },
    inputShape: [7, 5],
    classCount: 10,
  },
  {
    name: "layers",
    spec: {
      architecture: "layers",
      topology: {
        class_name: "Sequential",
        config: {
          name: "every_kind",
          layers: [
            layer("InputLayer", {
              name: "input",
              batch_input_shape: [null, 180],
              dtype: "float32",
              sparse: false,
            }),
            layer("Reshape", { name: "image", target_shape: [10, 9, 2] }),
            layer("Conv2D", {
              name: "c1",
              filters: 6,
              kernel_size: [3, 3],
              padding: "same",
              activation: "elu",
            }),
            layer("LayerNormalization", { name: "n1", axis: -1 }),
            layer("DepthwiseConv2D", { name: "d1", kernel_size: 3, depth_multiplier: 2, activation: "relu" }),
            layer("MaxPooling2D", { name: "p1", pool_size: [2, 2], strides: [1, 2], padding: "same" }),
            layer("Conv2D", { name: "c2", filters: 5, kernel_size: 2, strides: 2, use_bias: false }),
            layer("LeakyReLU", { name: "l1", alpha: 0.2 }),
            layer("AveragePooling2D", { name: "p2", pool_size: [2, 1], strides: [1, 1] }),
            layer("Activation", { name: "a1", activation: "tanh" }),
            layer("ReLU", { name: "r1", max_value: 6 }),
            layer("Dense", { name: "e1", units: 8, activation: "swish" }),
            layer("GlobalAveragePooling2D", { name: "g1" }),
            layer("Dense", { name: "e2", units: 3 }),
            layer("Softmax", { name: "s1", axis: -1 }),
          ],
        },
      },
    },
    inputShape: [180],
    classCount: 3,
  },
];
