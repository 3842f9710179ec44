import type { Tensor } from "@tensorflow/tfjs";
import type { KernelHost } from "../override.ts";
import { asMatrix, define, runner } from "./kernel.ts";

/** [sum of the losses, number of correct rows, gradient in the logits]. */
export function defineCrossEntropy(host: KernelHost): void {
  const { heap, tf } = host;
  const run = runner(host);
  define(host, "RingfoldCrossEntropy", ({ logits, labels }) => {
    const { rows, columns } = asMatrix(logits!.shape);
    const loss = heap.output([]);
    const correct = heap.output([]);
    const grad = heap.kept(rows * columns);
    const results = [heap.at(loss), heap.at(correct), heap.at(grad)] as const;
    heap.kernels.softmaxCrossEntropy(heap.at(logits!), heap.at(labels!), rows, columns, ...results);
    return [loss, correct, grad];
  });
  define(host, "RingfoldCrossEntropyGrad", ({ grad }, { shape }: { readonly shape: number[] }) =>
    heap.share({ ...grad!, shape }),
  );
  tf.registerGradient({
    kernelName: "RingfoldCrossEntropy",
    inputsToSave: ["logits"],
    outputsToSave: [false, false, true],
    gradFunc: (dys, [logits, grad]) => ({
      logits: () => {
        const whole = run("RingfoldCrossEntropyGrad", { grad: grad! }, { shape: logits!.shape })[0]!;
        const dy = (dys as Tensor[])[0]!;
        return heap.view(dy)[0] === 1 ? whole : tf.mul(whole, dy);
      },
    }),
  });
}
