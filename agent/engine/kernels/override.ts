import type { DataType, KernelConfig, TensorInfo } from "@tensorflow/tfjs";
import type { Tf } from "../runtime.ts";
import { type Heap, sizeOf } from "./heap.ts";

/** Inputs of a kernel by name; optional ones may be absent. */
export type Inputs = Readonly<Record<string, TensorInfo | undefined>>;

/** What a kernel needs to compute. */
export interface TensorHost {
  readonly tf: Tf;
  readonly heap: Heap;
}

/** What a group of kernels needs to register itself. */
export interface KernelHost extends TensorHost {
  /**
   * Puts a kernel of ours before the one of TF.js. `compute` answers undefined to leave a case to TF.js; cases with an
   * empty input are never asked of it.
   */
  override<Attributes>(
    kernelName: string,
    compute: (inputs: Inputs, attributes: Attributes) => TensorInfo | undefined,
  ): void;
}

/** The tensor of that name, when it is there and of that type; kernels leave other cases to TF.js. */
export function ask(inputs: Inputs, name: string, dtype: DataType = "float32"): TensorInfo | null {
  const tensor = inputs[name];
  return tensor && tensor.dtype === dtype ? tensor : null;
}

export function kernelHost(tf: Tf, heap: Heap): KernelHost {
  return {
    tf,
    heap,
    override(kernelName, compute) {
      const previous = tf.getKernel(kernelName, "wasm") as KernelConfig | undefined;
      if (previous) tf.unregisterKernel(kernelName, "wasm");
      tf.registerKernel({
        ...previous,
        kernelName,
        backendName: "wasm",
        kernelFunc(call) {
          const inputs = call.inputs as Inputs;
          const isEmpty = Object.values(inputs).some((tensor) => tensor && sizeOf(tensor.shape) === 0);
          const result = isEmpty ? undefined : compute(inputs, (call.attrs ?? {}) as never);
          if (result) return result;
          if (!previous) throw new Error(`${kernelName}: the wasm engine has no kernel for this case`);
          return previous.kernelFunc(call);
        },
      });
    },
  };
}
