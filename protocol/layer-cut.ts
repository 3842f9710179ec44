import { RingfoldError } from "./errors.ts";
import type { LayerDescription } from "./messages/model.ts";

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

/**
 * Cuts layers into `shardCount` contiguous runs so that the most expensive run is as cheap as can be. A layer costs what
 * `costs` say, each as a share of the model's total: unless told its multiply-adds (time) and its parameters (memory). Cuts
 * lie only where one tensor crosses, so a run may be longer than balance asks for.
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
  const mayEnd = (end: number) => end === layers.length || layers[end - 1]!.uncuttable !== true;
  const shardCountMax = layers.filter((_, i) => mayEnd(i + 1)).length;
  if (shardCount > shardCountMax) {
    const places = shardCountMax < layers.length ? `, which can be cut at ${shardCountMax - 1} places` : "";
    const message = `${shardCount} shards of a model with ${layers.length} layers${places}`;
    throw new RingfoldError("REQUEST_INVALID", message, {
      remedy: `Ask for at most ${shardCountMax} shards.`,
    });
  }
  const prefix = prefixCosts(layers, costs);
  const cost = (from: number, to: number) => prefix[to]! - prefix[from]!;
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
