import type { Tensor, Tensor2D } from "@tensorflow/tfjs";
import { type CrossingTensor, crossingAt } from "../models/crossing.ts";
import { activationAtEnd } from "../models/ending.ts";
import type { Graph } from "../models/graph.ts";
import { usedMask } from "../models/layers/masks.ts";
import { type LayerWeights, runLayer, type Training } from "./layer-run.ts";
import type { Runtime } from "./runtime.ts";

/** Layers `[fromLayer, toLayer)` of a graph, and their weights. */
export interface Run {
  readonly graph: Graph;
  readonly fromLayer: number;
  readonly toLayer: number;
  /** One entry a layer of the run. */
  readonly weights: readonly LayerWeights[];
}

/**
 * Runs layers in order. Call it inside a tidy.
 *
 * @param x rows of examples [batch, ...shape of a row] for a run from the first layer, else what the run before it returned
 * @param of.ending `bare` leaves out the softmax or sigmoid at the very end, for a cross-entropy that is stable
 * @param of.training for a training step; without it the layers do what they do in serving
 * @param of.rows the numbers of `x`, where that is a variable: inputs of the model, which may be among them, have no gradient
 * @returns what crosses to the next run (`crossingAt`): the tensor itself where there is one, else rows [batch, elements]
 *
 * The layers are run here and not by TF.js's layers API, which takes fused operations apart when gradients are wanted,
 * gives variables names of its own, and builds whatever class a topology names.
 */
export function forward(
  runtime: Runtime,
  { graph, fromLayer, toLayer, weights }: Run,
  x: Tensor,
  of: {
    readonly ending: "whole" | "bare";
    readonly training?: Training | undefined;
    readonly rows?: Tensor | undefined;
  },
): Tensor {
  const { ending, training, rows = x } = of;
  const known = new Map<number, Tensor>();
  for (const tensor of crossingAt(graph, fromLayer).tensors)
    known.set(tensor.source, partOf(runtime, tensor, tensor.source < 0 ? rows : x));
  for (let at = fromLayer; at < toLayer; at++) {
    const layer = graph.layers[at]!;
    const takes = layer.sources.map((source) => known.get(source)!);
    const isBare = ending === "bare" && at === graph.layers.length - 1 && activationAtEnd(layer) !== "other";
    const masks = usedMask(layer).map((embedding) => maskOf(runtime, graph, embedding, known));
    const mask = masks.length > 0 ? masks.reduce((both, each) => runtime.tf.mul(both, each)) : null;
    known.set(at, runLayer(runtime, layer, weights[at - fromLayer]!, { takes, mask, isBare, training }));
  }
  return crossingOf(runtime, graph, toLayer, known);
}

/** One tensor of the rows. */
function partOf({ tf }: Runtime, { shape, offset, elementCount }: CrossingTensor, x: Tensor): Tensor {
  const batch = x.shape[0]!;
  if (x.size === batch * elementCount) return tf.reshape(x, [batch, ...shape]);
  return tf.reshape(tf.slice(x, [0, offset], [batch, elementCount]), [batch, ...shape]);
}

function crossingOf({ tf }: Runtime, graph: Graph, at: number, known: ReadonlyMap<number, Tensor>): Tensor {
  const tensors = crossingAt(graph, at).tensors.map(({ source }) => known.get(source)!);
  if (tensors.length === 1) return tensors[0]!;
  return tf.concat(
    tensors.map((tensor) => tf.reshape(tensor, [tensor.shape[0]!, -1])),
    1,
  );
}

/** f32 [batch, places]: 1 where there is a token, 0 where there is padding. */
function maskOf(
  { tf }: Runtime,
  graph: Graph,
  embedding: number,
  known: ReadonlyMap<number, Tensor>,
): Tensor2D {
  const tokens = known.get(graph.layers[embedding]!.sources[0]!)!;
  return tf.cast(tf.notEqual(tokens, 0), "float32");
}
