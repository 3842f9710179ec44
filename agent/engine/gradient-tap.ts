import type { Tensor } from "@tensorflow/tfjs";
import type { LayerWeights } from "./layer-run.ts";
import type { Tf } from "./runtime.ts";
import type { WeightSet } from "./weights.ts";

/**
 * The weights for one forward pass, with an ear on the backward pass: `onGradient` is called with the gradient of each
 * parameter as soon as that is complete, by its place in the layout.
 *
 * Each parameter passes through an identity of its own, made at its first use. On TF.js's tape it so lies ahead of all uses,
 * and the tape is walked backwards: when its turn comes, every use has added its part. An identity made before the forward
 * pass would have its turn after everything.
 *
 * @param onGradient must not keep the tensor
 */
export function tapGradients(
  tf: Tf,
  { byLayer, variables }: Pick<WeightSet, "byLayer" | "variables">,
  onGradient: (index: number, gradient: Tensor) => void,
): readonly LayerWeights[] {
  let next = 0;
  return byLayer.map((weights) => {
    const tapped: LayerWeights = {};
    for (const name of Object.keys(weights)) {
      const index = next++;
      let value: Tensor | undefined;
      Object.defineProperty(tapped, name, {
        enumerable: true,
        get: () => {
          value ??= tf.customGrad((x) => ({
            value: tf.clone(x as Tensor),
            gradFunc: (gradient: Tensor) => {
              onGradient(index, gradient);
              return gradient;
            },
          }))(variables[index]!);
          return value;
        },
      });
    }
    return tapped;
  });
}

/** Tells how far a flat array is final, counted from its end, while its parts come in any order. */
export class FinalMark {
  readonly #layout: WeightSet["layout"];
  readonly #isFinal: boolean[];
  #firstFinal: number;

  constructor(layout: WeightSet["layout"]) {
    this.#layout = layout;
    this.#isFinal = layout.map(() => false);
    this.#firstFinal = layout.length;
  }

  /** @returns the first element from which on all are final, if that is a new one */
  note(index: number): number | undefined {
    this.#isFinal[index] = true;
    const before = this.#firstFinal;
    while (this.#isFinal[this.#firstFinal - 1]) this.#firstFinal--;
    return this.#firstFinal === before ? undefined : this.#layout[this.#firstFinal]!.offset;
  }
}
