import assert from "node:assert/strict";
import type { Variable } from "@tensorflow/tfjs";
import type { Layer } from "../models/layers/kinds.ts";
import type { LayerWeights } from "./layer-run.ts";
import type { ParameterSlot } from "./port.ts";
import type { Runtime } from "./runtime.ts";

/** The variables of a run of layers, and where each lies in one flat array. */
export interface WeightSet {
  /** By layer, as `forward` takes them. */
  readonly byLayer: readonly LayerWeights[];
  /** In layout order; those of running averages among them, which no gradient changes. */
  readonly variables: readonly Variable[];
  /** Those that a gradient changes. */
  readonly trained: readonly Variable[];
  readonly layout: readonly ParameterSlot[];
  readonly parameterCount: number;
  dispose(): void;
}

/** Names are `layer/weight`; the order is that of the layers, and in a layer kernel before bias. */
export function layoutOf(layers: readonly Layer[]): ParameterSlot[] {
  const layout: ParameterSlot[] = [];
  let offset = 0;
  for (const layer of layers) {
    for (const { name, shape, isAverage } of layer.weights) {
      const elementCount = shape.reduce((product, length) => product * length, 1);
      layout.push({
        name: `${layer.name}/${name}`,
        shape,
        offset,
        elementCount,
        ...(isAverage ? { isAverage } : {}),
      });
      offset += elementCount;
    }
  }
  return layout;
}

/** Makes variables from the slices of `values`, f32 [parameterCount] in layout order. The caller owns them. */
export function createWeights(runtime: Runtime, layers: readonly Layer[], values: Float32Array): WeightSet {
  const { tf } = runtime;
  const layout = layoutOf(layers);
  const variables = layout.map(({ shape, offset, elementCount, isAverage }) => {
    const initial = tf.tensor(values.slice(offset, offset + elementCount), [...shape]);
    const variable = tf.variable(initial, isAverage !== true);
    initial.dispose();
    return variable;
  });
  let next = 0;
  const byLayer = layers.map((layer): LayerWeights => {
    const entries = layer.weights.map(({ name }) => [name, variables[next++]!] as const);
    return Object.fromEntries(entries);
  });
  return {
    byLayer,
    variables,
    trained: variables.filter(({ trainable }) => trainable),
    layout,
    parameterCount: values.length,
    dispose: () => {
      for (const variable of variables) variable.dispose();
    },
  };
}

/** Copies all variables into `into`, f32 [parameterCount], in layout order. */
export function readWeights(
  runtime: Runtime,
  { layout, variables, parameterCount }: WeightSet,
  into: Float32Array,
): Promise<void> {
  assert.equal(into.length, parameterCount);
  return runtime.read(
    variables.map((tensor, i) => {
      const { offset, elementCount } = layout[i]!;
      return { tensor, into: into.subarray(offset, offset + elementCount) };
    }),
  );
}

/** @param from f32 [parameterCount], in layout order */
export function writeWeights(
  runtime: Runtime,
  { layout, variables, parameterCount }: WeightSet,
  from: Float32Array,
): void {
  assert.equal(from.length, parameterCount);
  runtime.activate();
  layout.forEach(({ offset, elementCount }, i) => {
    runtime.write(variables[i]!, from.subarray(offset, offset + elementCount));
  });
}
