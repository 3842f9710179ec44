import assert from "node:assert/strict";
import type { Tensor } from "@tensorflow/tfjs";
import type { Layer } from "../models/layers/kinds.ts";
import type { Kept } from "./differentiate.ts";
import type { Runtime } from "./runtime.ts";
import type { WeightSet } from "./weights.ts";

/** How far the running averages of a model are to move for one batch. */
export class Averages {
  readonly #runtime: Runtime;
  readonly #weights: WeightSet;
  readonly #kept: Kept;
  readonly #changes = new Map<string, Tensor>();

  constructor(runtime: Runtime, weights: WeightSet, kept: Kept) {
    this.#runtime = runtime;
    this.#weights = weights;
    this.#kept = kept;
  }

  /** Takes what the batch shows, by the names of a layer's weights. The change is kept beyond the running tidy. */
  readonly observe = (layer: Layer, statistics: Readonly<Record<string, Tensor>>): void => {
    assert(layer.kind === "BatchNormalization");
    const { tf } = this.#runtime;
    const { layout, variables } = this.#weights;
    for (const [weight, statistic] of Object.entries(statistics)) {
      const name = `${layer.name}/${weight}`;
      const running = variables[layout.findIndex((slot) => slot.name === name)]!;
      const change = tf.mul(tf.sub(running, statistic), 1 - layer.config.momentum);
      this.#changes.set(name, this.#kept.keep(change));
    }
  };

  /** What is to be taken away from the average at this place of the layout. The caller frees it. */
  changeOf(place: number): Tensor {
    return this.#changes.get(this.#weights.layout[place]!.name)!;
  }
}
