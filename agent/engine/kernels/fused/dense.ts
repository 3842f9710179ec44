import type { Tensor, Tensor2D } from "@tensorflow/tfjs";
import { type ConvAttributes, conv2d, conv2dFilterGrad, conv2dInputGrad } from "../convolution.ts";
import { matMul } from "../matmul.ts";
import type { KernelHost } from "../override.ts";
import { asMatrix, define, ready, runner } from "./kernel.ts";

/** [dy where y > 0, its column sums]. */
export function defineReluBias(host: KernelHost): void {
  const { heap } = host;
  define(host, "RingfoldReluBiasGrad", ({ y, dy }) => {
    const { rows, columns } = asMatrix(y!.shape);
    const dx = heap.output(y!.shape);
    const db = heap.output([columns]);
    heap.kernels.reluBiasGrad(heap.at(y!), heap.at(dy!), heap.at(dx), rows, columns, heap.at(db));
    return [dx, db];
  });
}

/**
 * Gradients before bias and ReLU, and of the bias. With ReLU both come out of one kernel call, which is made at once: TF.js
 * runs the gradient function of each input in a tidy of its own, and that would free the siblings.
 */
function beforeBias(host: KernelHost, dy: Tensor, y: Tensor | undefined, relu: boolean) {
  if (relu) {
    const [dx, db] = runner(host)("RingfoldReluBiasGrad", { y: y!, dy });
    return { dx: dx!, db: () => db! };
  }
  const axes = dy.shape.map((_, axis) => axis).slice(0, -1);
  return { dx: dy, db: () => host.tf.sum(dy, axes) };
}

export function defineDense(host: KernelHost): void {
  const { tf } = host;
  define(host, "RingfoldDense", ({ x, kernel, bias }, { relu }: { relu: boolean }) => {
    const product = { a: x!, b: kernel!, transposeA: false, transposeB: false, bias, relu };
    return matMul(host, product)!;
  });
  tf.registerGradient({
    kernelName: "RingfoldDense",
    inputsToSave: ["x", "kernel"],
    outputsToSave: [true],
    gradFunc: (dy, [x, kernel, y], attributes) => {
      const { dx, db } = beforeBias(host, dy as Tensor, y, Boolean(attributes.relu));
      return {
        x: () => tf.matMul(dx as Tensor2D, kernel as Tensor2D, false, true),
        kernel: () => tf.matMul(x as Tensor2D, dx as Tensor2D, true, false),
        bias: db,
      };
    },
  });
}

type FusedConvAttributes = ConvAttributes & { readonly relu: boolean };

export function defineConv2d(host: KernelHost): void {
  const run = runner(host);
  const whole = <Result>(result: Result | undefined, filterShape: readonly number[]): Result => {
    if (result) return result;
    throw new Error(`a filter of shape [${filterShape.join(", ")}] is too large for the wasm engine`);
  };
  define(host, "RingfoldConv2d", ({ x, filter, bias }, attributes: FusedConvAttributes) =>
    whole(conv2d(host, x!, filter!, attributes, { bias, relu: attributes.relu }), filter!.shape),
  );
  type FilterAttributes = ConvAttributes & { readonly filterShape: number[] };
  define(host, "RingfoldConv2dFilterGrad", ({ x, dy, y }, attributes: FilterAttributes) => {
    const { filterShape } = attributes;
    const dbias = host.heap.output([filterShape[3]!]);
    return [whole(conv2dFilterGrad(host, x!, { dy: dy!, y }, attributes, dbias), filterShape), dbias];
  });
  type InputAttributes = ConvAttributes & { readonly inputShape: number[] };
  define(host, "RingfoldConv2dInputGrad", ({ dy, y, filter }, attributes: InputAttributes) =>
    whole(conv2dInputGrad(host, { dy: dy!, y }, filter!, attributes), filter!.shape),
  );
  host.tf.registerGradient({
    kernelName: "RingfoldConv2d",
    inputsToSave: ["x", "filter"],
    outputsToSave: [true],
    gradFunc: (gradient, [x, filter, y], attributes) => {
      const { strides, pad, dilations, relu } = attributes as unknown as FusedConvAttributes;
      const common = { strides, pad, dilations };
      const behind = { dy: gradient as Tensor, y: relu ? y! : null };
      const byFilter = { ...common, filterShape: filter!.shape };
      const byInput = { ...common, inputShape: x!.shape };
      const [dfilter, dbias] = run("RingfoldConv2dFilterGrad", { x: x!, ...behind }, byFilter);
      return {
        ...ready({ filter: dfilter, bias: dbias }),
        x: () => run("RingfoldConv2dInputGrad", { ...behind, filter: filter! }, byInput)[0]!,
      };
    },
  });
}
