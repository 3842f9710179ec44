import type { Tensor } from "@tensorflow/tfjs";
import type { KernelHost } from "../override.ts";
import { asMatrix, define } from "./kernel.ts";

/** [sum of the losses, number of correct rows, gradient in the logits]. */
export function defineCrossEntropy(host: KernelHost): void {
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
    gradFunc: (dy, [grad]) => ({ logits: () => tf.mul(grad!, (dy as Tensor[])[0]!) }),
  });
}
