import fc from "fast-check";
import { expect, test } from "vitest";
import { cutIntoShards, type LayerRange } from "../../protocol/layer-cut.ts";
import type { LayerDescription } from "../../protocol/messages/model.ts";

const layersOf = (
  costs: readonly (readonly [multiplyAdds: number, parameterCount: number])[],
): LayerDescription[] =>
  costs.map(([multiplyAdds, parameterCount], i) => ({
    name: `layer_${i}`,
    kind: "Dense",
    outputShape: [1],
    parameterCount,
    multiplyAdds,
  }));

/** Time and memory of a run of layers, each as a share of the whole model's. */
function costOf(layers: readonly LayerDescription[], { fromLayer, toLayer }: LayerRange): number {
  const share = (of: (layer: LayerDescription) => number) => {
    const total = layers.reduce((sum, layer) => sum + of(layer), 0);
    const run = layers.slice(fromLayer, toLayer).reduce((sum, layer) => sum + of(layer), 0);
    return total === 0 ? 0 : run / total;
  };
  return share(({ multiplyAdds }) => multiplyAdds) + share(({ parameterCount }) => parameterCount);
}
const worst = (layers: readonly LayerDescription[], ranges: readonly LayerRange[]): number =>
  Math.max(...ranges.map((range) => costOf(layers, range)));

/** Every way to cut, one after the other. */
function* allCuts(layerCount: number, shardCount: number, fromLayer = 0): Generator<LayerRange[]> {
  if (shardCount === 1) {
    yield [{ fromLayer, toLayer: layerCount }];
    return;
  }
  for (let toLayer = fromLayer + 1; toLayer <= layerCount - shardCount + 1; toLayer++) {
    for (const rest of allCuts(layerCount, shardCount - 1, toLayer)) yield [{ fromLayer, toLayer }, ...rest];
  }
}

const task = fc
  .array(fc.tuple(fc.nat(1_000), fc.nat(1_000)), { minLength: 1, maxLength: 9 })
  .chain((costs) => fc.tuple(fc.constant(layersOf(costs)), fc.integer({ min: 1, max: costs.length })));

test("shards are contiguous, none is empty, and together they are the model", () => {
  fc.assert(
    fc.property(task, ([layers, shardCount]) => {
      const ranges = cutIntoShards(layers, shardCount);
      expect(ranges).toHaveLength(shardCount);
      let next = 0;
      for (const { fromLayer, toLayer } of ranges) {
        expect(fromLayer).toBe(next);
        expect(toLayer).toBeGreaterThan(fromLayer);
        next = toLayer;
      }
      expect(next).toBe(layers.length);
    }),
  );
});

test("no other cut has a cheaper worst shard", () => {
  fc.assert(
    fc.property(task, ([layers, shardCount]) => {
      const found = worst(layers, cutIntoShards(layers, shardCount));
      const best = Math.min(
        ...[...allCuts(layers.length, shardCount)].map((ranges) => worst(layers, ranges)),
      );
      expect(found).toBeCloseTo(best, 9);
    }),
  );
});

test("where more than one tensor crosses, a cut costs what the others cost on the way", () => {
  const graphs = fc
    .array(fc.tuple(fc.integer({ min: 1, max: 10_000 }), fc.option(fc.nat(50), { nil: undefined })), {
      minLength: 2,
      maxLength: 8,
    })
    .chain((of) => fc.tuple(fc.constant(of), fc.integer({ min: 2, max: of.length })));
  fc.assert(
    fc.property(graphs, ([of, shardCount]) => {
      const layers = layersOf(of.map(([multiplyAdds]) => [multiplyAdds, 1])).map((layer, i) => {
        const others = i === of.length - 1 ? undefined : of[i]![1];
        return others === undefined ? layer : { ...layer, crossingElements: 1 + others };
      });
      const total = layers.reduce((sum, { multiplyAdds }) => sum + multiplyAdds, 0);
      const dearest = (ranges: readonly LayerRange[]) =>
        Math.max(
          ...ranges.map((range) => {
            const others = (layers[range.toLayer - 1]!.crossingElements ?? 1) - 1;
            return costOf(layers, range) + (640 * others) / total;
          }),
        );
      const best = Math.min(...[...allCuts(layers.length, shardCount)].map(dearest));
      expect(dearest(cutIntoShards(layers, shardCount))).toBeCloseTo(best, 9);
    }),
  );
});

test("a model of an earlier release is cut only where one tensor crosses", () => {
  const flags = fc.array(fc.boolean(), { minLength: 1, maxLength: 9 });
  fc.assert(
    fc.property(flags, fc.nat(), (given, pick) => {
      const layers = layersOf(given.map(() => [1, 1])).map((layer, i) => ({
        ...layer,
        ...(given[i] && i < given.length - 1 ? { uncuttable: true as const } : {}),
      }));
      const places = layers.filter(({ uncuttable }) => !uncuttable).length;
      const ranges = cutIntoShards(layers, (pick % places) + 1);
      for (const { toLayer } of ranges) expect(layers[toLayer - 1]!.uncuttable).toBeUndefined();
      expect(() => cutIntoShards(layers, places + 1)).toThrow(/shards of a model/);
    }),
  );
});

test("more shards than layers are refused, and the remedy says how many there can be", () => {
  expect(() => cutIntoShards(layersOf([[1, 1]]), 2)).toThrow(
    expect.objectContaining({ code: "REQUEST_INVALID", remedy: "Ask for at most 1 shards." }),
  );
});
