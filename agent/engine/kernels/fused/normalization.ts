import type { Tensor } from "@tensorflow/tfjs";
import type { KernelHost } from "../override.ts";
import { asMatrix, define, ready, runner } from "./kernel.ts";

interface Attributes {
  readonly epsilon: number;
}

/** [y, mean and inverse deviation of each row]. */
export function defineLayerNorm(host: KernelHost): void {
  const { heap, tf } = host;
  const run = runner(host);
  define(host, "RingfoldLayerNorm", ({ x, gamma, beta }, { epsilon }: Attributes) => {
    const { rows, columns } = asMatrix(x!.shape);
    const y = heap.output(x!.shape);
    const stats = heap.output([rows, 2]);
    const weights = [heap.at(gamma!), beta ? heap.at(beta) : 0] as const;
    heap.kernels.layerNorm(heap.at(x!), ...weights, epsilon, rows, columns, heap.at(y), heap.at(stats));
    return [y, stats];
  });
  define(host, "RingfoldLayerNormGrad", ({ x, gamma, stats, dy }) => {
    const { rows, columns } = asMatrix(x!.shape);
    const [dx, dgamma, dbeta] = [heap.output(x!.shape), heap.output([columns]), heap.output([columns])];
    const inputs = [heap.at(x!), heap.at(gamma!), heap.at(stats!), heap.at(dy!)] as const;
    const results = [heap.at(dx), heap.at(dgamma), heap.at(dbeta)] as const;
    heap.kernels.layerNormGrad(...inputs, rows, columns, ...results);
    return [dx, dgamma, dbeta];
  });
  tf.registerGradient({
    kernelName: "RingfoldLayerNorm",
    inputsToSave: ["x", "gamma"],
    outputsToSave: [false, true],
    gradFunc: (dy, [x, gamma, stats]) => {
      const inputs = { x: x!, gamma: gamma!, stats: stats!, dy: (dy as Tensor[])[0]! };
      const [dx, dgamma, dbeta] = run("RingfoldLayerNormGrad", inputs);
      return ready({ x: dx, gamma: dgamma, beta: dbeta });
    },
  });
}

/** [y, mean, variance, inverse deviation of each column]. */
export function defineBatchNorm(host: KernelHost): void {
  const { heap, tf } = host;
  const run = runner(host);
  define(host, "RingfoldBatchNorm", ({ x, gamma, beta }, { epsilon }: Attributes) => {
    const { rows, columns } = asMatrix(x!.shape);
    const outputs = [heap.output(x!.shape), ...[0, 1, 2].map(() => heap.output([columns]))];
    const [y, mean, variance, inverse] = outputs.map((tensor) => heap.at(tensor)) as [
      number,
      number,
      number,
      number,
    ];
    const weights = [heap.at(gamma!), beta ? heap.at(beta) : 0] as const;
    heap.kernels.batchNorm(heap.at(x!), ...weights, epsilon, rows, columns, y, mean, variance, inverse);
    return outputs;
  });
  define(host, "RingfoldBatchNormGrad", ({ x, gamma, mean, inverse, dy }) => {
    const { rows, columns } = asMatrix(x!.shape);
    const [dx, dgamma, dbeta] = [heap.output(x!.shape), heap.output([columns]), heap.output([columns])];
    const inputs = [heap.at(x!), heap.at(gamma!), heap.at(mean!), heap.at(inverse!), heap.at(dy!)] as const;
    const results = [heap.at(dx), heap.at(dgamma), heap.at(dbeta)] as const;
    heap.kernels.batchNormGrad(...inputs, rows, columns, ...results);
    return [dx, dgamma, dbeta];
  });
  tf.registerGradient({
    kernelName: "RingfoldBatchNorm",
    inputsToSave: ["x", "gamma"],
    outputsToSave: [false, true, false, true],
    gradFunc: (dy, [x, gamma, mean, inverse]) => {
      const inputs = { x: x!, gamma: gamma!, mean: mean!, inverse: inverse!, dy: (dy as Tensor[])[0]! };
      const [dx, dgamma, dbeta] = run("RingfoldBatchNormGrad", inputs);
      return ready({ x: dx, gamma: dgamma, beta: dbeta });
    },
  });
}
