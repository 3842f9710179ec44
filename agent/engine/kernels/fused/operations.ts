import type { Tensor, Tensor1D, Tensor2D, Tensor3D, Tensor4D } from "@tensorflow/tfjs";
import type { Operations } from "../../runtime.ts";
import type { KernelHost } from "../override.ts";
import { defineGelu } from "./activation.ts";
import { defineAttention, defineEmbedding } from "./attention.ts";
import { defineConv2d, defineDense, defineReluBias } from "./dense.ts";
import { runner } from "./kernel.ts";
import { defineCrossEntropy } from "./loss.ts";
import { defineBatchNorm, defineLayerNorm } from "./normalization.ts";
import { defineGru, defineLstm } from "./recurrent.ts";

/**
 * Whole layers as one kernel each, with gradients: the sums in between never go to memory. TF.js has fused kernels too,
 * but takes them apart as soon as a gradient is wanted.
 */
export function fusedOperations(host: KernelHost): Operations {
  const { tf } = host;
  for (const group of definitions) group(host);
  const run = runner(host);
  const ones = (x: Tensor) => tf.ones([x.shape.at(-1) ?? 1]);
  const shown = ([batch, places]: readonly number[]) => tf.ones([batch!, places!]);
  return {
    dense: (x, kernel, bias, relu) => run("RingfoldDense", { x, kernel, bias }, { relu })[0] as Tensor2D,
    conv2d: (x, filter, bias, { strides, padding, dilations = [1, 1], relu }) =>
      run("RingfoldConv2d", { x, filter, bias }, { strides, pad: padding, dilations, relu })[0] as Tensor4D,
    crossEntropy(logits, labels) {
      const [loss, correct] = run("RingfoldCrossEntropy", { logits, labels });
      return { loss: loss as Tensor, correct: correct as Tensor };
    },
    layerNorm: (x, gamma, beta, epsilon) =>
      run("RingfoldLayerNorm", { x, gamma: gamma ?? ones(x), beta }, { epsilon })[0]!,
    batchNorm(x, gamma, beta, epsilon) {
      const inputs = { x, gamma: gamma ?? ones(x), beta };
      const [y, mean, variance] = run("RingfoldBatchNorm", inputs, { epsilon });
      return { y: y!, mean: mean as Tensor1D, variance: variance as Tensor1D };
    },
    gelu: (x, form) => run("RingfoldGelu", { x }, { form })[0]!,
    attention: (q, k, v, { heads, causal, keyMask }) =>
      run("RingfoldAttention", { q, k, v, mask: keyMask }, { heads, causal })[0] as Tensor3D,
    embedding: (table, ids) => run("RingfoldEmbedding", { table, ids })[0]!,
    sequences: {
      lstm: (x, kernel, { mask, ...attributes }) =>
        run("RingfoldLstm", { x, kernel, mask: mask ?? shown(x.shape) }, attributes)[0] as Tensor3D,
      gru: (x, kernel, { bias, mask, ...attributes }) =>
        run("RingfoldGru", { x, kernel, bias, mask: mask ?? shown(x.shape) }, attributes)[0] as Tensor3D,
    },
  };
}

const definitions = [
  defineReluBias,
  defineDense,
  defineConv2d,
  defineCrossEntropy,
  defineLayerNorm,
  defineBatchNorm,
  defineGelu,
  defineAttention,
  defineEmbedding,
  defineLstm,
  defineGru,
];
