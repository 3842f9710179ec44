import { sizeOf } from "./heap.ts";
import { ask, type KernelHost } from "./override.ts";

/** Functions of single elements that TF.js's wasm backend computes one at a time. */
export function registerActivations({ heap, override }: KernelHost): void {
  const kernels = { Exp: heap.kernels.exp, Erf: heap.kernels.erf, Tanh: heap.kernels.tanh };
  for (const [name, compute] of Object.entries(kernels)) {
    override(name, (inputs) => {
      const x = ask(inputs, "x");
      if (!x) return undefined;
      const out = heap.output(x.shape);
      compute(heap.at(x), heap.at(out), sizeOf(x.shape));
      return out;
    });
  }
}
