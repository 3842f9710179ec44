import type { Tensor, TensorInfo } from "@tensorflow/tfjs";
import type { KernelHost } from "../override.ts";
import { define, ready, runner } from "./kernel.ts";

interface Attributes {
  readonly goBackwards: boolean;
}
type GruAttributes = Attributes & { readonly resetAfter: boolean };

/** [batch, places, units] of the states of a sequence. */
const statesOf = (mask: TensorInfo, kernel: TensorInfo): [number, number, number] => [
  ...(mask.shape as [number, number]),
  kernel.shape[0]!,
];

/** [states of all places, what the gradient needs]. */
export function defineLstm(host: KernelHost): void {
  const { heap, tf } = host;
  const run = runner(host);
  define(host, "RingfoldLstm", ({ x, kernel, mask }, { goBackwards }: Attributes) => {
    const sizes = statesOf(mask!, kernel!);
    const [batch, places, units] = sizes;
    const [out, kept] = [heap.output(sizes), heap.kept(5 * batch * places * units)];
    const inputs = [heap.at(x!), heap.at(kernel!), heap.at(mask!)] as const;
    const results = [heap.at(kept), heap.at(out), scratchFor(host, sizes)] as const;
    heap.kernels.lstm(...inputs, ...sizes, goBackwards ? 1 : 0, ...results);
    return [out, kept];
  });
  define(host, "RingfoldLstmGrad", ({ kernel, mask, out, kept, dy }, { goBackwards }: Attributes) => {
    const sizes = statesOf(mask!, kernel!);
    const [batch, places, units] = sizes;
    const [dx, dkernel] = [heap.output([batch, places, 4 * units]), heap.output(kernel!.shape)];
    const inputs = [kernel!, mask!, kept!, out!, dy!].map((tensor) => heap.at(tensor)) as Five;
    const results = [heap.at(dx), heap.at(dkernel), scratchFor(host, sizes)] as const;
    heap.kernels.lstmGrad(...inputs, ...sizes, goBackwards ? 1 : 0, ...results);
    return [dx, dkernel];
  });
  tf.registerGradient({
    kernelName: "RingfoldLstm",
    inputsToSave: ["kernel", "mask"],
    outputsToSave: [true, true],
    gradFunc: (dys, [kernel, mask, out, kept], attributes) => {
      const inputs = { kernel: kernel!, mask: mask!, out: out!, kept: kept!, dy: (dys as Tensor[])[0]! };
      const [dx, dkernel] = run("RingfoldLstmGrad", inputs, attributes);
      return ready({ x: dx, kernel: dkernel });
    },
  });
}

/** [states of all places, what the gradient needs]. */
export function defineGru(host: KernelHost): void {
  const { heap, tf } = host;
  const run = runner(host);
  define(host, "RingfoldGru", ({ x, kernel, bias, mask }, { goBackwards, resetAfter }: GruAttributes) => {
    const sizes = statesOf(mask!, kernel!);
    const [batch, places, units] = sizes;
    const [out, kept] = [heap.output(sizes), heap.kept(4 * batch * places * units)];
    const inputs = [heap.at(x!), heap.at(kernel!), bias ? heap.at(bias) : 0, heap.at(mask!)] as const;
    const results = [heap.at(kept), heap.at(out), scratchFor(host, sizes)] as const;
    heap.kernels.gru(...inputs, ...sizes, goBackwards ? 1 : 0, resetAfter ? 1 : 0, ...results);
    return [out, kept];
  });
  define(
    host,
    "RingfoldGruGrad",
    ({ kernel, mask, out, kept, dy }, { goBackwards, resetAfter }: GruAttributes) => {
      const sizes = statesOf(mask!, kernel!);
      const [batch, places, units] = sizes;
      const dx = heap.output([batch, places, 3 * units]);
      const [dkernel, dbias] = [heap.output(kernel!.shape), heap.output([3 * units])];
      const inputs = [kernel!, mask!, kept!, out!, dy!].map((tensor) => heap.at(tensor)) as Five;
      const results = [heap.at(dx), heap.at(dkernel), heap.at(dbias), scratchFor(host, sizes)] as const;
      heap.kernels.gruGrad(...inputs, ...sizes, goBackwards ? 1 : 0, resetAfter ? 1 : 0, ...results);
      return [dx, dkernel, dbias];
    },
  );
  tf.registerGradient({
    kernelName: "RingfoldGru",
    inputsToSave: ["kernel", "mask"],
    outputsToSave: [true, true],
    gradFunc: (dys, [kernel, mask, out, kept], attributes) => {
      const inputs = { kernel: kernel!, mask: mask!, out: out!, kept: kept!, dy: (dys as Tensor[])[0]! };
      const [dx, dkernel, dbias] = run("RingfoldGruGrad", inputs, attributes);
      return ready({ x: dx, kernel: dkernel, bias: dbias });
    },
  });
}

type Five = [number, number, number, number, number];

const scratchFor = ({ heap }: KernelHost, [batch, , units]: readonly [number, number, number]): number =>
  heap.scratch(heap.kernels.recurrentScratch(batch, units));
