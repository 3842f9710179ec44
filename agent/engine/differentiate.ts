import type { NamedTensorMap, Scalar, Tensor, Variable } from "@tensorflow/tfjs";
import type { Tf } from "./runtime.ts";

/** Tensors that outlive the tidy that makes them; the caller's, unless `differentiate` throws. */
export class Kept {
  readonly #tf: Tf;
  readonly #tensors: Tensor[] = [];

  constructor(tf: Tf) {
    this.#tf = tf;
  }

  keep(tensor: Tensor): Tensor {
    this.#tensors.push(this.#tf.keep(tensor));
    return tensor;
  }

  dispose(): void {
    this.#tf.dispose(this.#tensors);
  }
}

/**
 * `tf.variableGrads` that leaves nothing behind where it throws: neither what was kept in `loss`, nor what TF.js has saved for
 * the way back. Each attempt of a step that fails would take the memory of its activations with it.
 */
export function differentiate(
  tf: Tf,
  kept: Kept,
  loss: () => Scalar,
  variables: readonly Variable[],
): { readonly value: Tensor; readonly grads: NamedTensorMap } {
  try {
    // TF.js differentiates by nothing at all only with an error; running averages want to see the batch all the same.
    return variables.length > 0 ? tf.variableGrads(loss, [...variables]) : { value: loss(), grads: {} };
  } catch (cause) {
    kept.dispose();
    forgetTape(tf);
    throw cause;
  }
}

/** Operations of the forward pass, with what their gradients need; the next pass begins a new one. */
function forgetTape(tf: Tf): void {
  const { state } = tf.engine();
  for (const { saved = [] } of state.activeTape ?? []) tf.dispose(saved);
  state.activeTape = [];
}
