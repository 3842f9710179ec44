import assert from "node:assert/strict";
import type { Tensor, Tensor1D, Tensor2D, Tensor4D, Variable } from "@tensorflow/tfjs";
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
}

export interface ConvolutionOptions {
  readonly strides: [number, number];
  readonly padding: "valid" | "same";
  readonly relu: boolean;
}

/** The operations that some engine does better than TF.js composes them. All are differentiable. */
export interface Operations {
  /** x [n, k] · kernel [k, m], plus bias [m], then ReLU if asked. */
  dense(x: Tensor2D, kernel: Tensor2D, bias: Tensor1D | null, relu: boolean): Tensor2D;
  /** NHWC; filter [height, width, channels in, channels out]. */
  conv2d(x: Tensor4D, filter: Tensor4D, bias: Tensor1D | null, options: ConvolutionOptions): Tensor4D;
  /**
   * Sum over the batch of the softmax cross-entropy of logits [n, classes] with labels [n] (int32, within range), and
   * how many rows have their first largest logit at the label. Differentiable in the logits, by the loss.
   */
  crossEntropy(logits: Tensor2D, labels: Tensor1D): { loss: Tensor; correct: Tensor };
}

/** `activate` of a backend that is up. */
export const activator = (tf: Tf, name: Runtime["name"]) => (): void => {
  if (tf.getBackend() === name) return;
  // Asynchronous only for a backend that has yet to start.
  void tf.setBackend(name);
  assert.equal(tf.getBackend(), name);
};
