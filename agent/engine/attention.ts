import type { Tensor, Tensor1D, Tensor2D, Tensor3D } from "@tensorflow/tfjs";
import type { Layer } from "../models/layers/kinds.ts";
import type { LayerWeights } from "./layer-run.ts";
import type { Runtime } from "./runtime.ts";

/**
 * Projections to heads, scaled dot products, and the projection back.
 * @param takes the query, the value and, where it is another one, the key: [batch, places, width]
 * @param mask f32 [batch, keys]: 0 where the value is padding
 */
export function attention(
  runtime: Runtime,
  layer: Extract<Layer, { kind: "MultiHeadAttention" }>,
  weights: LayerWeights,
  takes: readonly Tensor[],
  mask: Tensor2D | null,
): Tensor {
  const [query, value, key = value] = takes as Tensor3D[];
  const { num_heads: heads, key_dim } = layer.config;
  const inner = heads * key_dim;
  const projected = (name: string, x: Tensor3D, columns: number): Tensor3D =>
    project(runtime, x, weights[`${name}/kernel`]!, weights[`${name}/bias`], columns);
  const q = projected("query", query!, inner);
  const k = projected("key", key!, inner);
  const v = projected("value", value!, inner);
  const mixed = runtime.operations.attention(q, k, v, { heads, causal: layer.causal, keyMask: mask });
  return projected("attention_output", mixed, query!.shape[2]);
}

/** Keras keeps heads apart in the shape of a kernel; in memory they lie as in a plain one. */
function project(
  { tf, operations }: Runtime,
  x: Tensor3D,
  kernel: Tensor,
  bias: Tensor | undefined,
  columns: number,
): Tensor3D {
  const [batch, places, width] = x.shape;
  const rows = tf.reshape(x, [batch * places, width]) as Tensor2D;
  const plain = tf.reshape(kernel, [width, columns]) as Tensor2D;
  const flatBias = bias ? (tf.reshape(bias, [columns]) as Tensor1D) : null;
  return tf.reshape(operations.dense(rows, plain, flatBias, false), [batch, places, columns]);
}
