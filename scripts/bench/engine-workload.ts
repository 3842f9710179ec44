import type { Batch, Engine, OpenModelOptions } from "../../agent/engine/port.ts";
import { createOptimizer } from "../../agent/training/optimizer.ts";
import { initialState } from "../../agent/training/training-state.ts";
import { targetLength } from "../../protocol/data-schema.ts";
import type { ModelSpec } from "../../protocol/job-spec.ts";

/** Models that are measured; engine-torch.py has the same ones. */
export const benchModels = ["cnn", "depthwise", "mlp", "transformer"] as const;
export type BenchModel = (typeof benchModels)[number];

type Workload = Omit<OpenModelOptions, "seed"> & { readonly spec: ModelSpec };

const images = { inputShape: [28, 28, 1], target: { kind: "class", classCount: 10 } } as const;
const vocabulary = 256;
const places = 64;

/** Blocks of MobileNet without their normalisation: a convolution of each channel by itself, then one of single pixels. */
const separable = (filters: number, strides: number) => [
  layer("DepthwiseConv2D", { kernel_size: 3, strides, padding: "same", activation: "relu" }),
  layer("Conv2D", { filters, kernel_size: 1, activation: "relu" }),
];
const layer = (class_name: string, config: object) => ({ class_name, config });
const depthwiseLayers = [
  layer("Conv2D", { filters: 32, kernel_size: 3, padding: "same", activation: "relu" }),
  ...separable(64, 1),
  ...separable(128, 2),
  ...separable(128, 1),
  layer("GlobalAveragePooling2D", {}),
  layer("Dense", { units: 10, activation: "softmax" }),
].map(({ class_name, config }, i) => layer(class_name, { name: `layer_${i}`, ...config }));

const workloads: Record<BenchModel, Workload> = {
  cnn: { ...images, spec: { architecture: "cnn", filters: [32], kernelSize: 3, hidden: [] } },
  depthwise: {
    ...images,
    spec: {
      architecture: "layers",
      topology: { class_name: "Sequential", config: { name: "depthwise", layers: depthwiseLayers } },
    },
  },
  mlp: { ...images, spec: { architecture: "mlp", hidden: [512, 512] } },
  transformer: {
    inputShape: [places],
    features: [{ name: "text", shape: [places], kind: "category", cardinality: vocabulary }],
    target: { kind: "tokens", length: places, classCount: vocabulary },
    spec: { architecture: "transformer-lm", width: 128, heads: 4, layers: 1, dropout: 0 },
  },
};

/** Synthetic examples; the speed does not depend on what they are. */
function batchOf({ inputShape, target }: Workload, exampleCount: number): Batch {
  const inputSize = inputShape.reduce((product, length) => product * length, exampleCount);
  const isText = target.kind === "tokens";
  return {
    exampleCount,
    inputs: Float32Array.from({ length: inputSize }, (_, i) =>
      isText ? (i * 37) % vocabulary : ((i * 37) % 101) / 101,
    ),
    targets: Float32Array.from({ length: exampleCount * targetLength(target) }, (_, i) =>
      isText ? (i * 31 + 7) % vocabulary : i % 10,
    ),
  };
}

/** Whole steps of a trainer that is alone: gradient of the mean loss, Adam, parameters back to the engine. */
export async function openStepper(
  engine: Engine,
  name: BenchModel,
  exampleCount: number,
): Promise<{ step(): Promise<void>; close(): void }> {
  const { spec, ...shape } = workloads[name];
  const model = engine.openModel(spec, { ...shape, seed: 1 });
  const batch = batchOf(workloads[name], exampleCount);
  const adam = { kind: "adam", learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 } as const;
  const optimizer = createOptimizer(adam, model.layout);
  const { parameterCount } = model.description;
  const state = initialState(parameterCount, optimizer);
  await model.readParameters(state.parameters);
  const gradient = new Float32Array(parameterCount);
  return {
    async step() {
      const { lossWeight } = await model.gradient(batch, gradient);
      optimizer.apply(state, gradient, adam.learningRate, 1 / lossWeight);
      model.writeParameters(state.parameters);
    },
    close: () => model.close(),
  };
}
