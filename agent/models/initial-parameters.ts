import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import type { Weight } from "./layers/geometry.ts";
import type { Layer } from "./layers/kinds.ts";

type Draw = () => number;

/**
 * Writes the state before the first step, in layout order. The same seed gives the same bits on every machine and
 * engine: ranks begin alike without sending anything.
 *
 * @param into f32 [parameterCount]
 */
export function writeInitialParameters(layers: readonly Layer[], seed: number, into: Float32Array): void {
  let offset = 0;
  layers.forEach((layer, layerIndex) => {
    layer.weights.forEach((weight, weightIndex) => {
      const size = weight.shape.reduce((product, length) => product * length, 1);
      const sample = sampler(weight, drawer(seed, layerIndex, weightIndex));
      for (const end = offset + size; offset < end; offset++) into[offset] = sample();
    });
  });
}

/** Uniform numbers in [0, 1), with 24 bits, for one tensor: a layer changed elsewhere does not shift them. */
function drawer(seed: number, layerIndex: number, weightIndex: number): Draw {
  // Odd factors of 32 bits keep neighbouring seeds and layers apart; xoroshiro does the rest after a few rounds.
  const mixed = Math.imul(seed ^ Math.imul(layerIndex + 1, 0x9e37_79b1), 0x85eb_ca6b) ^ (weightIndex + 1);
  const generator = xoroshiro128plus(mixed);
  for (let i = 0; i < 16; i++) generator.next();
  return () => (generator.next() >>> 8) / 2 ** 24;
}

/** Draws the elements of a weight one by one. */
function sampler({ initializer, fanIn, fanOut }: Weight, draw: Draw): Draw {
  switch (initializer.kind) {
    case "constant":
      return () => initializer.value;
    case "uniform":
      return uniform(draw, initializer.min, initializer.max);
    case "normal":
      return normal(draw, initializer.mean, initializer.deviation, initializer.isTruncated);
    case "scaled": {
      const fan = { fanIn, fanOut, fanAvg: (fanIn + fanOut) / 2 }[initializer.mode];
      const variance = initializer.scale / Math.max(1, fan);
      const limit = Math.sqrt(3 * variance);
      return initializer.distribution === "uniform"
        ? uniform(draw, -limit, limit)
        : normal(draw, 0, Math.sqrt(variance), true);
    }
  }
}

const uniform =
  (draw: Draw, min: number, max: number): Draw =>
  () =>
    min + (max - min) * draw();

/**
 * Source: Marsaglia & Bray, "A convenient method for generating normal variables", 1964. Its square root is exact, and
 * its logarithm is V8's own port of fdlibm, so the bits do not depend on the machine.
 */
const normal =
  (draw: Draw, mean: number, deviation: number, isTruncated: boolean): Draw =>
  () => {
    for (;;) {
      const u = 2 * draw() - 1;
      const v = 2 * draw() - 1;
      const square = u * u + v * v;
      if (square >= 1 || square === 0) continue;
      const sample = u * Math.sqrt((-2 * Math.log(square)) / square);
      if (!isTruncated || Math.abs(sample) <= 2) return mean + deviation * sample;
    }
  };
