import type { Graph, ModelInput } from "./graph.ts";
import { sizeOf } from "./layers/geometry.ts";
import { usedMask } from "./layers/masks.ts";

/** A tensor that layers behind a cut take from before it. */
export interface CrossingTensor extends Omit<ModelInput, "name"> {
  /** Which layer puts it out; -1 - i for input i of the model, such as the tokens that say where padding is. */
  readonly source: number;
}

/** What the layers from a cut on take from before it: of each example one row, the tensors flat, one behind the other. */
export interface Crossing {
  readonly tensors: readonly CrossingTensor[];
  /** Elements of a row. */
  readonly size: number;
}

/**
 * What crosses before layer `at`: the row of an example at 0, and the model's output behind the last layer. What several layers
 * behind the cut take crosses once, and what comes from further back crosses every cut on its way.
 */
export function crossingAt({ inputs, layers }: Graph, at: number): Crossing {
  const tensorOf = (source: number) => {
    if (source >= 0) return { source, shape: layers[source]!.outputShape };
    return { source, shape: inputs[-1 - source]!.shape };
  };
  if (at === 0) {
    const tensors = inputs.map((input, i) => ({ ...input, source: -1 - i }));
    return { tensors, size: tensors.reduce((size, { elementCount }) => size + elementCount, 0) };
  }
  const later = layers.slice(at);
  const taken =
    later.length === 0 ? [at - 1] : later.flatMap(({ sources }) => sources.filter((source) => source < at));
  // A mask is the tokens of an embedding, compared with 0.
  const tokens = later.flatMap((layer) => usedMask(layer).map((embedding) => layers[embedding]!.sources[0]!));
  const sources = [...new Set([...taken, ...tokens])].sort((a, b) => b - a);
  let size = 0;
  const tensors = sources.map(tensorOf).map((tensor) => {
    const elementCount = sizeOf(tensor.shape);
    size += elementCount;
    return { ...tensor, offset: size - elementCount, elementCount };
  });
  return { tensors, size };
}
