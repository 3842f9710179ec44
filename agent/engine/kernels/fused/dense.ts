import type { Tensor, Tensor2D } from "@tensorflow/tfjs";
import { type ConvAttributes, conv2d } from "../convolution.ts";
import { matMul } from "../matmul.ts";
import type { KernelHost } from "../override.ts";
import { asMatrix, define, runner } from "./kernel.ts";

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

export function defineConv2d(host: KernelHost): void {
  const run = runner(host);
  define(host, "RingfoldConv2d", ({ x, filter, bias }, attributes: ConvAttributes & { relu: boolean }) => {
    const out = conv2d(host, x!, filter!, attributes, { bias, relu: attributes.relu });
    if (!out)
      throw new Error(`a filter of shape [${filter!.shape.join(", ")}] is too large for the wasm engine`);
    return out;
  });
  host.tf.registerGradient({
    kernelName: "RingfoldConv2d",
    inputsToSave: ["x", "filter"],
    outputsToSave: [true],
    gradFunc: (dy, [x, filter, y], attributes) => {
      const { strides, pad, dilations, relu } = attributes as unknown as ConvAttributes & { relu: boolean };
      const { dx, db } = beforeBias(host, dy as Tensor, y, relu);
      const common = { strides, pad, dilations, dataFormat: "NHWC" };
      const inputShape = x!.shape;
      const filterShape = filter!.shape;
      return {
        x: () => run("Conv2DBackpropInput", { dy: dx, filter: filter! }, { ...common, inputShape })[0]!,
        filter: () => run("Conv2DBackpropFilter", { x: x!, dy: dx }, { ...common, filterShape })[0]!,
        bias: db,
      };
    },
  });
}
