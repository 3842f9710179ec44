import assert from "node:assert/strict";
import type { Tensor, Tensor1D, Tensor2D, Tensor3D, Tensor4D, Variable } from "@tensorflow/tfjs";
import type { Engine } from "./port.ts";

export type Tf = typeof import("@tensorflow/tfjs");

/** One TF.js backend that is up. Everything else of an engine (models, shards, measurements) is shared code. */
export interface Runtime {
  readonly name: Engine["name"];
  readonly tf: Tf;
  /** Name of the GPU that computes, or null. */
  readonly gpu: string | null;
  /** What exactly was opened, for a person: "WebAssembly with relaxed SIMD, one thread". */
  readonly detail: string;
  readonly operations: Operations;
  /**
   * Makes this backend the current one of TF.js, which has one a process: before every computation, as another engine
   * may have computed since. Needs no waiting.
   */
  activate(): void;
  /** Writes `values` (f32, as many as the variable has) into a variable. */
  write(variable: Variable, values: Float32Array): void;
  /**
   * Reads f32 tensors into arrays of their sizes, in one transfer where the engine has a transfer to save. The tensors
   * are read before the first suspension or stay the caller's until the promise settles.
   */
  read(parts: readonly { readonly tensor: Tensor; readonly into: Float32Array }[]): Promise<void>;
  /** Reads one f32 tensor at once, also in the middle of a computation; absent where that means to wait for a device. */
  readNow?(tensor: Tensor, into: Float32Array): void;
}

export interface ConvolutionOptions {
  readonly strides: [number, number];
  readonly padding: "valid" | "same";
  /** Distance of the filter's taps, in pixels; 1 unless told. */
  readonly dilations?: [number, number];
  readonly relu: boolean;
}

/** Which function is meant by GELU: x·Φ(x) itself, or Hendrycks & Gimpel's approximation of it by tanh (GPT-2). */
export type GeluForm = "erf" | "tanh";

export interface AttentionOptions {
  /** Width of q, k and v is `heads` times the width of a head; head h has the columns from h·headWidth on. */
  readonly heads: number;
  /** The last query sees every key, the one before all but the last key, and so on. */
  readonly causal: boolean;
  /** f32 [batch, keys]: 1 where a key may be seen, 0 where not (padding). A query that sees none gets zeros. */
  readonly keyMask: Tensor2D | null;
}

export interface SequenceOptions {
  readonly goBackwards: boolean;
  /** f32 [batch, places]: 0 where the state stays as it is, 1 elsewhere. */
  readonly mask: Tensor2D | null;
}

/**
 * Recurrent layers with the activations tanh and sigmoid, whole. x [batch, places, gates · units] is the input's part of the gates,
 * kernel [units, gates · units]; gates in Keras' order. All states: [batch, places, units], in the order in which the places are
 * come to. Sources: Hochreiter & Schmidhuber, 1997, and Gers et al., 2000; Cho et al., 2014.
 */
export interface Sequences {
  lstm(x: Tensor3D, kernel: Tensor2D, options: SequenceOptions): Tensor3D;
  /** `bias` [3 · units] goes with the state, and only where the reset lies behind the product (`resetAfter`). */
  gru(
    x: Tensor3D,
    kernel: Tensor2D,
    options: SequenceOptions & { readonly resetAfter: boolean; readonly bias: Tensor1D | null },
  ): Tensor3D;
}

/**
 * The operations that some engine does better than TF.js composes them. All are differentiable in their float inputs,
 * once (no gradient of a gradient).
 */
export interface Operations {
  /** x [n, k] · kernel [k, m], plus bias [m], then ReLU if asked. */
  dense(x: Tensor2D, kernel: Tensor2D, bias: Tensor1D | null, relu: boolean): Tensor2D;
  /** NHWC; filter [height, width, channels in, channels out]. */
  conv2d(x: Tensor4D, filter: Tensor4D, bias: Tensor1D | null, options: ConvolutionOptions): Tensor4D;
  /**
   * Sum over the rows of the softmax cross-entropy of logits [n, classes] with labels [n] (int32), and how many rows
   * have their first largest logit at the label. A row with label -1 counts for nothing. Differentiable in the logits,
   * by the loss.
   */
  crossEntropy(logits: Tensor2D, labels: Tensor1D): { loss: Tensor; correct: Tensor };
  /** Over the last axis, of any rank. Source: Ba, Kiros & Hinton, "Layer normalization", 2016. */
  layerNorm(x: Tensor, gamma: Tensor1D | null, beta: Tensor1D | null, epsilon: number): Tensor;
  /**
   * Over all but the last axis, with the mean and the variance (biased, n in the divisor) of this batch, which are given
   * back for running averages and are not to be differentiated. Source: Ioffe & Szegedy, "Batch normalization", 2015.
   */
  batchNorm(
    x: Tensor,
    gamma: Tensor1D | null,
    beta: Tensor1D | null,
    epsilon: number,
  ): { y: Tensor; mean: Tensor1D; variance: Tensor1D };
  gelu(x: Tensor, form: GeluForm): Tensor;
  /**
   * softmax(q·kᵀ / √headWidth)·v for each head. q [batch, queries, width]; k and v [batch, keys, width].
   * Source: Vaswani et al., "Attention is all you need", 2017, section 3.2.
   */
  attention(q: Tensor3D, k: Tensor3D, v: Tensor3D, options: AttentionOptions): Tensor3D;
  /** Rows of table [rows, width] by ids (int32, any shape, within range): shape [...ids, width]. */
  embedding(table: Tensor2D, ids: Tensor): Tensor;
  /** Absent where the places of a sequence are composed one after the other. */
  readonly sequences?: Sequences;
}

/** `activate` of a backend that is up. */
export const activator = (tf: Tf, name: Runtime["name"]) => (): void => {
  if (tf.getBackend() === name) return;
  // Asynchronous only for a backend that has yet to start.
  void tf.setBackend(name);
  assert.equal(tf.getBackend(), name);
};
