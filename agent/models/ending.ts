import type { Target } from "../../protocol/data-schema.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import type { Graph, LayerJson } from "./graph.ts";
import type { Layer } from "./layers/kinds.ts";

/** How a model must end for a kind of target: what its last numbers are, and what turns them into an answer. */

/** Values of the output of one example. */
function outputShape(target: Target): readonly number[] {
  switch (target.kind) {
    case "class":
      return [target.classCount];
    case "tokens":
      return [target.length, target.classCount];
    case "binary":
    case "number":
      return [1];
  }
}

/** What a loss takes apart from the last layer, as it is stable only together with it; serving hands out what comes after. */
export function endingOf(target: Target): "softmax" | "sigmoid" | "linear" {
  return ({ class: "softmax", tokens: "softmax", binary: "sigmoid", number: "linear" } as const)[target.kind];
}

/** The last layer of a named architecture, over the last axis. */
export function endingLayer(name: string, target: Target): LayerJson {
  const units = outputShape(target).at(-1)!;
  return { class_name: "Dense", config: { name, units, activation: endingOf(target), use_bias: true } };
}

/** @throws RingfoldError JOB_INVALID naming what the model lacks for the target of the data */
export function checkEnding({ layers }: Graph, target: Target): void {
  const last = layers.at(-1)!;
  const expected = outputShape(target);
  if (last.outputShape.join() !== expected.join()) {
    const shape = last.outputShape.join(", ");
    const message = `the model puts out shape [${shape}], but the data has ${nameOf(target)}`;
    throw new RingfoldError("JOB_INVALID", message, { layer: last.name });
  }
  const ending = endingOf(target);
  if (ending === "linear" || activationAtEnd(last) === ending) return;
  const message = `the last layer, ${last.name}, is no ${ending}: give it activation "${ending}"`;
  throw new RingfoldError("JOB_INVALID", message, { layer: last.name });
}

function nameOf(target: Target): string {
  switch (target.kind) {
    case "class":
      return `${target.classCount} classes`;
    case "tokens":
      return `${target.classCount} classes at each of ${target.length} places`;
    case "binary":
      return "two answers, of which one number tells the chance: give it 1 unit";
    case "number":
      return "one number: give it 1 unit";
  }
}

/** The layer's last operation, where it is one that a loss can take the place of. */
export function activationAtEnd(layer: Layer): "softmax" | "sigmoid" | "other" {
  switch (layer.kind) {
    case "Softmax":
      return "softmax";
    case "Dense":
    case "Conv1D":
    case "Conv2D":
    case "DepthwiseConv2D":
    case "Activation": {
      const { activation } = layer.config;
      return activation === "softmax" || activation === "sigmoid" ? activation : "other";
    }
    default:
      return "other";
  }
}
