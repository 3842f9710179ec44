import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import type { Initializer } from "./layers/config.ts";
import type { Weight } from "./layers/geometry.ts";
import type { Layer } from "./layers/kinds.ts";

type Draw = () => number;

/**
 * Writes the state before the first step, in layout order. The same seed gives the same bits on every machine and
 * engine: ranks begin alike without sending anything.
 *
 * @param into f32 [parameterCount]
 * @param fromLayer where these layers begin in their model: a part of it begins with the bits that the whole has there
 */
export function writeInitialParameters(
  layers: readonly Layer[],
  seed: number,
  into: Float32Array,
  fromLayer = 0,
): void {
  let offset = 0;
  layers.forEach((layer, layerIndex) => {
    layer.weights.forEach((weight, weightIndex) => {
      const size = weight.shape.reduce((product, length) => product * length, 1);
      const values = into.subarray(offset, offset + size);
      write(weight, drawer(seed, fromLayer + layerIndex, weightIndex), values);
      offset += size;
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

function write(weight: Weight, draw: Draw, into: Float32Array): void {
  const { initializer } = weight;
  if (initializer.kind === "orthogonal") {
    writeOrthogonal(weight.shape.at(-1)!, normal(draw, 0, 1, false), into);
    for (let i = 0; i < into.length; i++) into[i]! *= initializer.gain;
  } else if (initializer.kind === "segments") {
    const { values } = initializer;
    for (let i = 0; i < into.length; i++) into[i] = values[Math.floor((i * values.length) / into.length)]!;
  } else {
    const sample = sampler(weight, initializer, draw);
    for (let i = 0; i < into.length; i++) into[i] = sample();
  }
}

/**
 * Rows of normal numbers, made orthonormal one after the other; where there are more rows than columns, the columns.
 * Source: Saxe, McClelland & Ganguli, "Exact solutions to the nonlinear dynamics of learning", 2014; modified Gram-Schmidt.
 * Cost: the square of the shorter side times the longer one.
 */
function writeOrthogonal(columnCount: number, sample: Draw, into: Float32Array): void {
  const rowCount = into.length / columnCount;
  const isWide = rowCount <= columnCount;
  const [vectorCount, length] = isWide ? [rowCount, columnCount] : [columnCount, rowCount];
  const vectors: Float64Array[] = [];
  for (let v = 0; v < vectorCount; v++) {
    const vector = Float64Array.from({ length }, sample);
    for (const other of vectors) {
      let product = 0;
      for (let i = 0; i < length; i++) product += vector[i]! * other[i]!;
      for (let i = 0; i < length; i++) vector[i]! -= product * other[i]!;
    }
    let square = 0;
    for (let i = 0; i < length; i++) square += vector[i]! * vector[i]!;
    const norm = Math.sqrt(square);
    for (let i = 0; i < length; i++) vector[i]! /= norm;
    vectors.push(vector);
    for (let i = 0; i < length; i++) into[isWide ? v * length + i : i * columnCount + v] = vector[i]!;
  }
}

type Independent = Exclude<Initializer, { kind: "orthogonal" | "segments" }>;

/** Draws the elements of a weight one by one. */
function sampler({ fanIn, fanOut }: Weight, initializer: Independent, draw: Draw): Draw {
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
