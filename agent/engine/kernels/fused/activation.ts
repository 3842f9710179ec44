import type { Tensor } from "@tensorflow/tfjs";
import type { GeluForm } from "../../runtime.ts";
import { sizeOf } from "../heap.ts";
import type { KernelHost } from "../override.ts";
import { define, ready, runner } from "./kernel.ts";

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

/** [h, the next state of the cell, the activated gates]. */
export function defineLstmCell(host: KernelHost): void {
  const { heap, tf } = host;
  const run = runner(host);
  define(host, "RingfoldLstmCell", ({ z, c }) => {
    const [rows, units] = c!.shape as [number, number];
    const [h, next, gates] = [heap.output(c!.shape), heap.output(c!.shape), heap.output(z!.shape)];
    heap.kernels.lstmCell(heap.at(z!), heap.at(c!), rows, units, heap.at(gates), heap.at(h), heap.at(next));
    return [h, next, gates];
  });
  define(host, "RingfoldLstmCellGrad", ({ gates, c, next, dh, dnext }) => {
    const [rows, units] = c!.shape as [number, number];
    const [dz, dc] = [heap.output(gates!.shape), heap.output(c!.shape)];
    const inputs = [gates!, c!, next!, dh!, dnext!].map((tensor) => heap.at(tensor));
    const pointers = inputs as [number, number, number, number, number];
    heap.kernels.lstmCellGrad(...pointers, rows, units, heap.at(dz), heap.at(dc));
    return [dz, dc];
  });
  tf.registerGradient({
    kernelName: "RingfoldLstmCell",
    inputsToSave: ["c"],
    outputsToSave: [false, true, true],
    gradFunc: (dys, [c, next, gates]) => {
      const [dh, dnext] = dys as Tensor[];
      const inputs = { gates: gates!, c: c!, next: next!, dh: dh!, dnext: dnext! };
      const [dz, dc] = run("RingfoldLstmCellGrad", inputs);
      return ready({ z: dz, c: dc });
    },
  });
}
