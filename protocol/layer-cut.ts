import { RingfoldError } from "./errors.ts";
import type { LayerDescription, ModelDescription } from "./messages/model.ts";

/** Layers `[fromLayer, toLayer)` of a model. */
export interface LayerRange {
  readonly fromLayer: number;
  readonly toLayer: number;
}

/** What a layer costs of one kind of thing: time, or memory. */
export type LayerCost = (layer: LayerDescription) => number;

/** What a shard for serving costs. */
const servingCosts: readonly LayerCost[] = [
  ({ multiplyAdds }) => multiplyAdds,
  ({ parameterCount }) => parameterCount,
];

const sizeOf = (shape: readonly number[]) => shape.reduce((product, length) => product * length, 1);

/** Of what crosses before layer `at`, without the batch dimension. Flat where several tensors cross. */
export function shapeAcross(
  { inputShape, layers }: Pick<ModelDescription, "inputShape" | "layers">,
  at: number,
): readonly number[] {
  if (at === 0) return inputShape;
  const { outputShape, crossingElements } = layers[at - 1]!;
  return crossingElements === undefined ? outputShape : [crossingElements];
}

/**
 * A number that crosses beside the one tensor that always does is as dear as so many multiply-adds of the run that ends there:
 * what an engine computes (20 G/s on a core) while a link of 1 Gbit/s carries it forward (32 M/s).
 */
const multiplyAddsPerCrossing = 640;

const isCuttable = ({ uncuttable }: LayerDescription): boolean => uncuttable !== true;

/** Into how many shards a model can be cut at most. */
export const shardCountMaxOf = ({ layers }: { readonly layers: readonly LayerDescription[] }): number =>
  layers.filter(isCuttable).length;

/**
 * Cuts layers into `shardCount` contiguous runs so that the most expensive run is as cheap as can be. A layer costs what
 * `costs` say, each as a share of the model's total: unless told its multiply-adds (time) and its parameters (memory). Where
 * more than one tensor crosses, the run that ends there costs as much more as it takes to carry the others, so a cut lies
 * inside of a residual block, or between a decoder's layers, only where balance needs it.
 *
 * Cost: O(layers^2 * shards), by dynamic programming; the classical linear partition problem (Skiena, "The Algorithm
 * Design Manual", section 10.7).
 * @throws RingfoldError REQUEST_INVALID when it cannot be cut into so many
 */
export function cutIntoShards(
  layers: readonly LayerDescription[],
  shardCount: number,
  costs: readonly LayerCost[] = servingCosts,
): LayerRange[] {
  const mayEnd = (end: number) => end === layers.length || isCuttable(layers[end - 1]!);
  const shardCountMax = shardCountMaxOf({ layers });
  if (shardCount > shardCountMax) {
    const places = shardCountMax < layers.length ? `, which can be cut at ${shardCountMax - 1} places` : "";
    const message = `${shardCount} shards of a model with ${layers.length} layers${places}`;
    throw new RingfoldError("REQUEST_INVALID", message, {
      remedy: `Ask for at most ${shardCountMax} shards.`,
    });
  }
  const prefix = prefixCosts(layers, costs);
  const crossing = crossingCosts(layers);
  const cost = (from: number, to: number) => prefix[to]! - prefix[from]! + crossing[to]!;
  // best[s][n]: the least possible maximum when the first n layers make s shards; cut[s][n]: where the last one starts.
  const best = Array.from({ length: shardCount + 1 }, () =>
    new Array<number>(layers.length + 1).fill(Number.POSITIVE_INFINITY),
  );
  const cut = Array.from({ length: shardCount + 1 }, () => new Array<number>(layers.length + 1).fill(0));
  best[0]![0] = 0;
  for (let shard = 1; shard <= shardCount; shard++) {
    for (let end = shard; end <= layers.length; end++) {
      if (!mayEnd(end)) continue;
      for (let start = shard - 1; start < end; start++) {
        const worst = Math.max(best[shard - 1]![start]!, cost(start, end));
        if (worst < best[shard]![end]!) {
          best[shard]![end] = worst;
          cut[shard]![end] = start;
        }
      }
    }
  }
  const ranges: LayerRange[] = [];
  for (let shard = shardCount, toLayer = layers.length; shard > 0; shard--) {
    const fromLayer = cut[shard]![toLayer]!;
    ranges.unshift({ fromLayer, toLayer });
    toLayer = fromLayer;
  }
  return ranges;
}

function prefixCosts(layers: readonly LayerDescription[], costs: readonly LayerCost[]): number[] {
  const totals = costs.map((cost) =>
    Math.max(
      1,
      layers.reduce((sum, layer) => sum + cost(layer), 0),
    ),
  );
  const prefix = [0];
  for (const layer of layers)
    prefix.push(costs.reduce((sum, cost, i) => sum + cost(layer) / totals[i]!, prefix.at(-1)!));
  return prefix;
}

/** Of a run that ends before layer `at`, as a share of the model's multiply-adds. */
function crossingCosts(layers: readonly LayerDescription[]): number[] {
  const total = Math.max(
    1,
    layers.reduce((sum, { multiplyAdds }) => sum + multiplyAdds, 0),
  );
  const costOf = ({ crossingElements, outputShape }: LayerDescription): number =>
    crossingElements === undefined
      ? 0
      : (multiplyAddsPerCrossing * Math.max(0, crossingElements - sizeOf(outputShape))) / total;
  return [0, ...layers.map(costOf)];
}
