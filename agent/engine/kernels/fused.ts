import type { NamedTensorMap, Tensor, Tensor1D, Tensor2D, Tensor4D, TensorInfo } from "@tensorflow/tfjs";
import { composedOperations } from "../composed-operations.ts";
import type { Operations } from "../runtime.ts";
import { type ConvAttributes, conv2d } from "./convolution.ts";
import { sizeOf } from "./heap.ts";
import { matMul } from "./matmul.ts";
import type { KernelHost } from "./override.ts";

/**
 * Whole layers as one kernel each, with gradients: the sums in between never go to memory. TF.js has fused kernels too,
 * but takes them apart as soon as a gradient is wanted. Worth 1.3-1.5x on the CNN and 1.1x on the MLP.
 *
 * Kernel names start with Ringfold, so that they cannot meet one of TF.js.
 */
export function fusedOperations(host: KernelHost): Operations {
  defineReluBias(host);
  defineDense(host);
  defineConv2d(host);
  defineCrossEntropy(host);
  const run = runner(host);
  return {
    ...composedOperations(host.tf),
    dense(x, kernel, bias, relu) {
      if (!bias)
        return relu ? host.tf.relu(host.tf.matMul(x, kernel)) : (host.tf.matMul(x, kernel) as Tensor2D);
      return run("RingfoldDense", { x, kernel, bias }, { relu })[0] as Tensor2D;
    },
    conv2d(x, filter, bias, { strides, padding, relu }) {
      if (bias) {
        return run("RingfoldConv2d", { x, filter, bias }, { strides, pad: padding, relu })[0] as Tensor4D;
      }
      const product = host.tf.conv2d(x, filter, strides, padding) as Tensor4D;
      return relu ? host.tf.relu(product) : product;
    },
    crossEntropy(logits, labels) {
      const [loss, correct] = run("RingfoldCrossEntropy", { logits, labels });
      return { loss: loss as Tensor, correct: correct as Tensor };
    },
  };
}

type Run = (kernelName: string, inputs: Record<string, Tensor>, attributes?: object) => Tensor[];

function runner({ tf }: KernelHost): Run {
  return (kernelName, inputs, attributes = {}) => {
    const result = tf.engine().runKernel(kernelName, inputs as NamedTensorMap, attributes as never);
    return Array.isArray(result) ? result : [result];
  };
}

/** Registers a kernel of ours on the wasm backend. */
function define(
  { tf }: KernelHost,
  kernelName: string,
  compute: (inputs: Record<string, TensorInfo>, attributes: never) => TensorInfo | TensorInfo[],
): void {
  tf.registerKernel({
    kernelName,
    backendName: "wasm",
    kernelFunc: ({ inputs, attrs }) => compute(inputs as Record<string, TensorInfo>, attrs as never),
  });
}

/** Rows and columns of a tensor whose last axis are the columns. */
const asMatrix = (shape: readonly number[]) => {
  const columns = shape.at(-1) ?? 1;
  return { rows: sizeOf(shape) / columns, columns };
};

/** [dy where y > 0, its column sums]. */
function defineReluBias(host: KernelHost): void {
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
 * Gradients before bias and ReLU, and of the bias. Both come out of one kernel call, which is made at once: TF.js runs
 * the gradient function of each input in a tidy of its own, and that would free the siblings.
 */
function beforeBias(host: KernelHost, dy: Tensor, y: Tensor | undefined, relu: boolean) {
  if (relu) {
    const [dx, db] = runner(host)("RingfoldReluBiasGrad", { y: y!, dy });
    return { dx: dx!, db: db! };
  }
  const axes = dy.shape.map((_, axis) => axis).slice(0, -1);
  return { dx: dy, db: host.tf.sum(dy, axes) };
}

function defineDense(host: KernelHost): void {
  const { tf } = host;
  define(host, "RingfoldDense", ({ x, kernel, bias }, { relu }: { relu: boolean }) => {
    const product = { a: x!, b: kernel!, transposeA: false, transposeB: false, bias: bias!, relu };
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
        bias: () => db as Tensor1D,
      };
    },
  });
}

function defineConv2d(host: KernelHost): void {
  const run = runner(host);
  define(host, "RingfoldConv2d", ({ x, filter, bias }, attributes: ConvAttributes & { relu: boolean }) => {
    const out = conv2d(host, x!, filter!, attributes, { bias: bias!, relu: attributes.relu });
    if (!out)
      throw new Error(`a filter of shape [${filter!.shape.join(", ")}] is too large for the wasm engine`);
    return out;
  });
  host.tf.registerGradient({
    kernelName: "RingfoldConv2d",
    inputsToSave: ["x", "filter"],
    outputsToSave: [true],
    gradFunc: (dy, [x, filter, y], attributes) => {
      const { strides, pad, relu } = attributes as unknown as ConvAttributes & { relu: boolean };
      const { dx, db } = beforeBias(host, dy as Tensor, y, relu);
      const common = { strides, pad, dataFormat: "NHWC" };
      const inputShape = x!.shape;
      const filterShape = filter!.shape;
      return {
        x: () => run("Conv2DBackpropInput", { dy: dx, filter: filter! }, { ...common, inputShape })[0]!,
        filter: () => run("Conv2DBackpropFilter", { x: x!, dy: dx }, { ...common, filterShape })[0]!,
        bias: () => db,
      };
    },
  });
}

/** [sum of the losses, number of correct rows, gradient in the logits]. */
function defineCrossEntropy(host: KernelHost): void {
  const { heap, tf } = host;
  define(host, "RingfoldCrossEntropy", ({ logits, labels }) => {
    const { rows, columns } = asMatrix(logits!.shape);
    const loss = heap.output([]);
    const correct = heap.output([]);
    const grad = heap.output(logits!.shape);
    const results = [heap.at(loss), heap.at(correct), heap.at(grad)] as const;
    heap.kernels.softmaxCrossEntropy(heap.at(logits!), heap.at(labels!), rows, columns, ...results);
    return [loss, correct, grad];
  });
  tf.registerGradient({
    kernelName: "RingfoldCrossEntropy",
    inputsToSave: [],
    outputsToSave: [false, false, true],
    gradFunc: (dy, [grad]) => ({
      logits: () => tf.mul(grad!, (dy as Tensor[])[0]!),
      labels: () => {
        throw new Error("labels have no gradient");
      },
    }),
  });
}
