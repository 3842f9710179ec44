import assert from "node:assert/strict";
import { RingfoldError } from "../../protocol/errors.ts";
import type { JobSpec } from "../../protocol/job-spec.ts";
import { decodeSafetensors } from "../../protocol/safetensors.ts";
import type { ParameterSlot, TrainableModel } from "../engine/port.ts";

/** Whether `*`-patterns name the layer of a parameter (`conv_1`), or the parameter itself (`conv_1/kernel`). */
function matcherOf(patterns: readonly string[], key: string, layout: readonly ParameterSlot[]) {
  const layerOf = (name: string) => name.slice(0, name.lastIndexOf("/"));
  const isNamedBy = (pattern: string) => {
    const parts = pattern.split("*").map((part) => part.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
    const expression = new RegExp(`^${parts.join(".*")}$`);
    return ({ name }: ParameterSlot) => {
      const parts = name.split("/"); // of a layer in parts: `both_ways/forward/kernel`
      return parts.some((_, i) => expression.test(parts.slice(0, i + 1).join("/")));
    };
  };
  const matchers = patterns.map(isNamedBy);
  const idle = patterns.find((_, i) => !layout.some(matchers[i]!));
  if (idle !== undefined) {
    const layers = [...new Set(layout.map(({ name }) => layerOf(name)))];
    const message = `${key}: no layer is named ${idle}; there are ${layers.join(", ")}`;
    throw new RingfoldError("JOB_INVALID", message, { pattern: idle, layers });
  }
  return (slot: ParameterSlot) => matchers.some((matches) => matches(slot));
}

/**
 * Gives a fresh model the weights of a version, but for the layers of `reset`, which keep their own beginning.
 * @param weights safetensors, as a version holds them
 * @throws RingfoldError JOB_INVALID when a parameter has no counterpart of its shape
 */
export async function adoptWeights(
  model: TrainableModel,
  weights: Uint8Array,
  { from, reset }: Pick<JobSpec, "from" | "reset">,
): Promise<void> {
  const found = new Map(decodeSafetensors(weights).tensors.map((tensor) => [tensor.name, tensor]));
  const isReset = matcherOf(reset ?? [], "reset", model.layout);
  const parameters = new Float32Array(model.description.parameterCount);
  await model.readParameters(parameters);
  for (const slot of model.layout) {
    if (isReset(slot)) continue;
    const tensor = found.get(slot.name);
    if (tensor?.shape.join() !== slot.shape.join()) {
      const there = tensor ? `of shape ${tensor.shape.join("x")}` : "not there";
      const message = `${slot.name} is ${slot.shape.join("x")} here and ${there} in ${from}: name its layer in reset`;
      throw new RingfoldError("JOB_INVALID", message, { parameter: slot.name });
    }
    parameters.set(tensor.data, slot.offset);
  }
  model.writeParameters(parameters);
}

/**
 * The part of a model that is trained: to a trainer the frozen parameters do not exist, so they have no gradient, no
 * optimizer state, and no place in the exchange, in checkpoints or in healing. Cost: two copies of the trained part a step.
 * @throws RingfoldError JOB_INVALID when a pattern names no layer, or nothing is left to train
 */
export function trainedPart(model: TrainableModel, freeze: readonly string[] = []): TrainableModel {
  if (freeze.length === 0) return model;
  const isFrozen = matcherOf(freeze, "freeze", model.layout);
  const kept = model.layout.filter((slot) => !isFrozen(slot));
  if (kept.length === 0) throw new RingfoldError("JOB_INVALID", "freeze leaves nothing to train");
  model.spare?.(isFrozen);
  let offset = 0;
  const layout = kept.map((slot): ParameterSlot => {
    const placed = { ...slot, offset };
    offset += slot.elementCount;
    return placed;
  });
  /** Of the whole model: its frozen parameters stay as they are, and the trained ones pass through. */
  const whole = new Float32Array(model.description.parameterCount);
  const gather = (into: Float32Array) => {
    for (const [i, slot] of kept.entries())
      into.set(whole.subarray(slot.offset, slot.offset + slot.elementCount), layout[i]!.offset);
  };
  const parameters = new Float32Array(whole.length);
  let isRead = false;
  return {
    ...model,
    layout,
    readParameters: async (into) => {
      await model.readParameters(parameters);
      isRead = true;
      whole.set(parameters);
      gather(into);
    },
    writeParameters: (from) => {
      assert(isRead, "the frozen parameters are known before others are written");
      for (const [i, slot] of kept.entries())
        parameters.set(from.subarray(layout[i]!.offset, layout[i]!.offset + slot.elementCount), slot.offset);
      model.writeParameters(parameters);
    },
    gradient: async (batch, gradient) => {
      const result = await model.gradient(batch, whole);
      gather(gradient);
      return result;
    },
  };
}
