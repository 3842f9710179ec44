import type { Tensor } from "@tensorflow/tfjs";
import type { GeluForm } from "../../runtime.ts";
import { sizeOf } from "../heap.ts";
import type { KernelHost } from "../override.ts";
import { define, runner } from "./kernel.ts";

interface Attributes {
  readonly form: GeluForm;
}

export function defineGelu(host: KernelHost): void {
  const { heap, tf } = host;
  const run = runner(host);
  define(host, "RingfoldGelu", ({ x }, { form }: Attributes) => {
    const out = heap.output(x!.shape);
    const compute = form === "erf" ? heap.kernels.gelu : heap.kernels.geluTanh;
    compute(heap.at(x!), heap.at(out), sizeOf(x!.shape));
    return out;
  });
  define(host, "RingfoldGeluGrad", ({ x, dy }, { form }: Attributes) => {
    const out = heap.output(x!.shape);
    const compute = form === "erf" ? heap.kernels.geluGrad : heap.kernels.geluTanhGrad;
    compute(heap.at(x!), heap.at(dy!), heap.at(out), sizeOf(x!.shape));
    return out;
  });
  tf.registerGradient({
    kernelName: "RingfoldGelu",
    inputsToSave: ["x"],
    gradFunc: (dy, [x], attributes) => ({
      x: () => run("RingfoldGeluGrad", { x: x!, dy: dy as Tensor }, attributes)[0]!,
    }),
  });
}
