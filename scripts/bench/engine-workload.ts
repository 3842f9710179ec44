import type { Engine } from "../../agent/engine/port.ts";
import type { Runtime } from "../../agent/engine/runtime.ts";
import { createOptimizer } from "../../agent/training/optimizer.ts";
import { initialState } from "../../agent/training/training-state.ts";
import type { ModelSpec } from "../../protocol/job-spec.ts";
import { openTransformer } from "./engine-transformer.ts";

/** Models that are measured; engine-torch.py has the same ones. */
export const benchModels = ["cnn", "mlp", "transformer"] as const;
export type BenchModel = (typeof benchModels)[number];

/** The part of a trainable model that a step of training uses, bound to one batch. */
export interface Trainee {
  readonly parameterCount: number;
  readParameters(into: Float32Array): Promise<void>;
  writeParameters(from: Float32Array): void;
  /** Writes the gradient of the sum of the losses, and answers how many losses that were. */
  gradient(into: Float32Array): Promise<number>;
  close(): void;
}

const classCount = 10;
const specs: Record<Exclude<BenchModel, "transformer">, ModelSpec> = {
  cnn: { architecture: "cnn", filters: [32], kernelSize: 3, hidden: [] },
  mlp: { architecture: "mlp", hidden: [512, 512] },
};

export function openTrainee(
  { engine, runtime }: { readonly engine: Engine; readonly runtime: Runtime },
  model: BenchModel,
  exampleCount: number,
): Trainee {
  if (model === "transformer") return openTransformer(runtime, exampleCount);
  const opened = engine.openModel(specs[model], {
    inputShape: [28, 28, 1],
    target: { kind: "class", classCount },
    seed: 1,
  });
  const batch = {
    exampleCount,
    inputs: Float32Array.from({ length: exampleCount * 784 }, (_, i) => ((i * 37) % 101) / 101),
    targets: Float32Array.from({ length: exampleCount }, (_, i) => i % classCount),
  };
  return {
    parameterCount: opened.description.parameterCount,
    readParameters: (into) => opened.readParameters(into),
    writeParameters: (from) => opened.writeParameters(from),
    gradient: async (into) => (await opened.gradient(batch, into)).targetCount,
    close: () => opened.close(),
  };
}

/** The step of a trainer that is alone: gradient of the mean loss, Adam, parameters back to the engine. */
export async function stepper(trainee: Trainee): Promise<() => Promise<void>> {
  const spec = { kind: "adam", learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 } as const;
  // The layout is for weight decay, which this has none of.
  const optimizer = createOptimizer(spec, []);
  const state = initialState(trainee.parameterCount, optimizer);
  await trainee.readParameters(state.parameters);
  const gradient = new Float32Array(trainee.parameterCount);
  return async () => {
    const count = await trainee.gradient(gradient);
    const share = Math.fround(1 / count);
    for (let i = 0; i < gradient.length; i++) gradient[i] = Math.fround(gradient[i]! * share);
    optimizer.apply(state, gradient, spec.learningRate);
    trainee.writeParameters(state.parameters);
  };
}
