import type { Tensor, Tensor2D } from "@tensorflow/tfjs";
import { activationAtEnd } from "../models/ending.ts";
import type { Graph, ModelInput } from "../models/graph.ts";
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
 * @param x rows of examples [batch, ...shape of a row] for a run from the first layer, else the output of the layer before
 * @param training for a training step; without it the layers do what they do in serving
 * @param ending `bare` leaves out the softmax or sigmoid at the very end, for a cross-entropy that is stable
 *
 * The layers are run here and not by TF.js's layers API, which takes fused operations apart when gradients are wanted,
 * gives variables names of its own, and builds whatever class a topology names.
 */
export function forward(
  runtime: Runtime,
  { graph, fromLayer, toLayer, weights }: Run,
  x: Tensor,
  { ending, training }: { readonly ending: "whole" | "bare"; readonly training?: Training | undefined },
): Tensor {
  const outputs: Tensor[] = [];
  const inputs = fromLayer === 0 ? graph.inputs.map((input) => inputOf(runtime, input, x)) : [];
  for (let at = fromLayer; at < toLayer; at++) {
    const layer = graph.layers[at]!;
    const takes = layer.sources.map((source) => {
      if (source >= fromLayer) return outputs[source - fromLayer]!;
      return source < 0 ? inputs[-1 - source]! : x; // a run is cut where one tensor crosses
    });
    const isBare = ending === "bare" && at === graph.layers.length - 1 && activationAtEnd(layer) !== "other";
    const masks = usedMask(layer).map((embedding) => maskOf(runtime, graph, embedding, inputs));
    const mask = masks.length > 0 ? masks.reduce((both, each) => runtime.tf.mul(both, each)) : null;
    outputs.push(runLayer(runtime, layer, weights[at - fromLayer]!, { takes, mask, isBare, training }));
  }
  return outputs.at(-1)!;
}

/** The part of the rows that is this input. */
function inputOf({ tf }: Runtime, { shape, offset, elementCount }: ModelInput, x: Tensor): Tensor {
  const batch = x.shape[0]!;
  if (x.size === batch * elementCount) return tf.reshape(x, [batch, ...shape]);
  return tf.reshape(tf.slice(x, [0, offset], [batch, elementCount]), [batch, ...shape]);
}

/** f32 [batch, places]: 1 where there is a token, 0 where there is padding. */
function maskOf({ tf }: Runtime, graph: Graph, embedding: number, inputs: readonly Tensor[]): Tensor2D {
  const tokens = inputs[-1 - graph.layers[embedding]!.sources[0]!]!;
  return tf.cast(tf.notEqual(tokens, 0), "float32");
}
