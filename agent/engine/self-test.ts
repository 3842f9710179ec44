import type { ModelSpec } from "../../protocol/job-spec.ts";
import { modelOf } from "../models/library.ts";
import { sequentialTopology } from "../models/topology.ts";
import { openTrainableModel } from "./model.ts";
import type { Runtime } from "./runtime.ts";
import reference from "./self-test-reference.json" with { type: "json" };

/**
 * A small convolution, max-pool and two dense layers. The convolution starts with a bias of -1 and has no ReLU, so the
 * maxima of its windows are negative: a backend whose pool gradient drops those trains wrong, silently.
 */
const inputShape = [9, 8, 2];
const classCount = 4;
const exampleCount = 3;
const spec: ModelSpec = {
  architecture: "layers",
  topology: sequentialTopology("self_test", [
    {
      class_name: "Conv2D",
      config: {
        name: "conv",
        filters: 5,
        kernel_size: [3, 3],
        padding: "same",
        bias_initializer: { class_name: "Constant", config: { value: -1 } },
      },
    },
    { class_name: "MaxPooling2D", config: { name: "pool", pool_size: [2, 2] } },
    { class_name: "Flatten", config: { name: "flatten" } },
    { class_name: "Dense", config: { name: "hidden", units: 7, activation: "relu" } },
    { class_name: "Dense", config: { name: "classes", units: classCount, activation: "softmax" } },
  ]),
};

/** Of the largest number in the reference. f32 in another order gives 1e-6; a wrong kernel gives 1e-1. */
const tolerance = 1e-4;

/** Loss and gradient of a fixed batch, as one list. */
export async function selfTestNumbers(runtime: Runtime): Promise<number[]> {
  const model = openTrainableModel(
    runtime,
    modelOf(spec, { inputShape, target: { kind: "class", classCount } }),
    7,
  );
  try {
    const size = inputShape.reduce((product, length) => product * length, exampleCount);
    const inputs = Float32Array.from({ length: size }, (_, i) => ((i * 37) % 101) / 101 - 0.5);
    const gradient = new Float32Array(model.description.parameterCount);
    const { lossSum } = await model.gradient(
      { exampleCount, inputs, targets: Float32Array.of(2, 0, 3) },
      gradient,
    );
    return [lossSum, ...gradient];
  } finally {
    model.close();
  }
}

/**
 * Compares with the stored numbers of the cpu engine. The contract suite holds the file to what the cpu engine computes.
 * @throws Error with one sentence when the engine computes wrong
 */
export async function selfTest(runtime: Runtime): Promise<void> {
  const numbers = await selfTestNumbers(runtime);
  const scale = Math.max(...reference.map(Math.abs));
  const worst = Math.max(...reference.map((expected, i) => Math.abs((numbers[i] ?? Number.NaN) - expected)));
  // Written so that NaN fails.
  if (!(worst <= tolerance * scale)) {
    throw new Error(
      `self-test failed: a gradient is off by ${worst.toPrecision(2)} of ${scale.toPrecision(2)}`,
    );
  }
}
