import type { NamedTensorMap, Tensor, TensorInfo } from "@tensorflow/tfjs";
import { sizeOf } from "../heap.ts";
import type { KernelHost } from "../override.ts";

/** Runs a kernel on the tape of TF.js. Inputs that are null are left out. */
export type Run = (
  kernelName: string,
  inputs: Readonly<Record<string, Tensor | null>>,
  attributes?: object,
) => Tensor[];

export function runner({ tf }: Pick<KernelHost, "tf">): Run {
  return (kernelName, inputs, attributes = {}) => {
    const present = Object.fromEntries(Object.entries(inputs).filter(([, tensor]) => tensor !== null));
    const result = tf.engine().runKernel(kernelName, present as NamedTensorMap, attributes as never);
    return Array.isArray(result) ? result : [result];
  };
}

/** Registers a kernel of ours on the wasm backend. Names start with Ringfold, so that they cannot meet one of TF.js. */
export function define(
  { tf }: Pick<KernelHost, "tf">,
  kernelName: `Ringfold${string}`,
  compute: (inputs: Record<string, TensorInfo>, attributes: never) => TensorInfo | TensorInfo[],
): void {
  tf.registerKernel({
    kernelName,
    backendName: "wasm",
    kernelFunc: ({ inputs, attrs }) => compute(inputs as Record<string, TensorInfo>, attrs as never),
  });
}

/** Rows and columns of a tensor whose last axis are the columns. */
export const asMatrix = (shape: readonly number[]): { rows: number; columns: number } => {
  const columns = shape.at(-1) ?? 1;
  return { rows: columns === 0 ? 0 : sizeOf(shape) / columns, columns };
};

/**
 * Gradients that came out of one kernel call, as TF.js asks for them: by function. The call is made before, at once: TF.js
 * runs the function of each input in a tidy of its own, and that would free the siblings.
 */
export const ready = (
  gradients: Readonly<Record<string, Tensor | undefined>>,
): Record<string, () => Tensor> =>
  Object.fromEntries(Object.entries(gradients).map(([name, tensor]) => [name, () => tensor!]));
