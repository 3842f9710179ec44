import assert from "node:assert/strict";
import { RingfoldError } from "../../protocol/errors.ts";
import type { JobSpec } from "../../protocol/job-spec.ts";
import { decodeSafetensors } from "../../protocol/safetensors.ts";
import type { ParameterSlot, StageGradients, StageModel, TrainableModel } from "../engine/port.ts";
import { parameterCountOf } from "./training-state.ts";

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
 * @throws as `layWeights`
 */
export async function adoptWeights(
  model: TrainableModel,
  weights: Uint8Array,
  how: Pick<JobSpec, "from" | "reset">,
): Promise<void> {
  const parameters = new Float32Array(model.description.parameterCount);
  await model.readParameters(parameters);
  layWeights(weights, how, model, parameters);
  model.writeParameters(parameters);
}

/**
 * Lays the weights of a version over `parameters`, but for the layers of `reset`.
 * @param weights safetensors, as a version holds them
 * @param of.layout of `parameters`: of a whole model, or of a stage of one, whose `wholeLayout` says which layers there are
 * @throws RingfoldError JOB_INVALID when a parameter has no counterpart of its shape
 */
export function layWeights(
  weights: Uint8Array,
  { from, reset }: Pick<JobSpec, "from" | "reset">,
  { layout, wholeLayout = layout }: Layouts,
  parameters: Float32Array,
): void {
  const found = new Map(decodeSafetensors(weights).tensors.map((tensor) => [tensor.name, tensor]));
  const isReset = matcherOf(reset ?? [], "reset", wholeLayout);
  for (const slot of layout) {
    if (isReset(slot)) continue;
    const tensor = found.get(slot.name);
    if (tensor?.shape.join() !== slot.shape.join()) {
      const there = tensor ? `of shape ${tensor.shape.join("x")}` : "not there";
      const message = `${slot.name} is ${slot.shape.join("x")} here and ${there} in ${from}: name its layer in reset`;
      throw new RingfoldError("JOB_INVALID", message, { parameter: slot.name });
    }
    parameters.set(tensor.data, slot.offset);
  }
}

interface Layouts {
  readonly layout: readonly ParameterSlot[];
  readonly wholeLayout?: readonly ParameterSlot[];
}

/**
 * The part of a model that is trained: to a trainer the frozen parameters do not exist, so they have no gradient, no
 * optimizer state, and no place in the exchange, in checkpoints or in healing. Cost: two copies of the trained part a step.
 * @throws RingfoldError JOB_INVALID when a pattern names no layer, or nothing is left to train
 */
export function trainedPart(model: TrainableModel, freeze: readonly string[] = []): TrainableModel {
  if (freeze.length === 0) return model;
  const part = new TrainedSlots(model, freeze);
  return {
    ...model,
    layout: part.layout,
    readParameters: (into) => part.readParameters(into),
    writeParameters: (from) => part.writeParameters(from),
    gradient: async (batch, gradient) => {
      const result = await model.gradient(batch, part.whole);
      part.gather(gradient);
      return result;
    },
  };
}

/** The same of one stage of a model, of which some layers, or all, may be frozen. @throws as `trainedPart` */
export function trainedStage(stage: StageModel, freeze: readonly string[] = []): StageModel {
  if (freeze.length === 0) return stage;
  const part = new TrainedSlots(stage, freeze);
  const { description, range, wholeLayout, inputSize, outputSize } = stage;
  const before = description.layers
    .slice(0, range.fromLayer)
    .reduce((count, { parameterCount }) => count + parameterCount, 0);
  const ofWhole = ({ inputs }: StageGradients) => ({ parameters: part.whole, inputs });
  return {
    ...{ description, range, wholeLayout, inputSize, outputSize },
    layout: part.layout,
    learnsBefore: wholeLayout.some((slot) => slot.offset < before && !part.isFrozen(slot)),
    writeBeginning: (into) => {
      stage.writeBeginning(part.whole);
      part.gather(into);
    },
    readParameters: (into) => part.readParameters(into),
    writeParameters: (from) => part.writeParameters(from),
    forward: (batch, purpose) => stage.forward(batch, purpose),
    backward: async (batch, of, into) => {
      await stage.backward(batch, of, ofWhole(into));
      part.gather(into.parameters);
    },
    gradient: async (batch, into) => {
      const result = await stage.gradient(batch, ofWhole(into));
      part.gather(into.parameters);
      return result;
    },
    spare: (isSpared) => stage.spare(isSpared),
    evaluate: (batch) => stage.evaluate(batch),
    close: () => stage.close(),
  };
}

/** Between a model that has all of its parameters and a trainer that knows of those alone that are trained. */
class TrainedSlots {
  readonly layout: readonly ParameterSlot[];
  /** f32, in the model's layout: gradients on their way to `gather`. */
  readonly whole: Float32Array;
  readonly isFrozen: (slot: ParameterSlot) => boolean;
  readonly #model: Parameterised;
  readonly #kept: readonly ParameterSlot[];
  /** Of the model: the frozen ones stay as they are, and the trained ones pass through. */
  readonly #parameters: Float32Array;
  #isRead = false;

  constructor(model: Parameterised, freeze: readonly string[]) {
    const { layout, wholeLayout = layout } = model;
    const isFrozen = matcherOf(freeze, "freeze", wholeLayout);
    this.isFrozen = isFrozen;
    if (wholeLayout.every(isFrozen)) throw new RingfoldError("JOB_INVALID", "freeze leaves nothing to train");
    model.spare?.(isFrozen);
    this.#model = model;
    this.#kept = layout.filter((slot) => !isFrozen(slot));
    let offset = 0;
    this.layout = this.#kept.map((slot): ParameterSlot => {
      const placed = { ...slot, offset };
      offset += slot.elementCount;
      return placed;
    });
    this.whole = new Float32Array(parameterCountOf(layout));
    this.#parameters = new Float32Array(this.whole.length);
  }

  /** The trained ones of `whole`. */
  gather(into: Float32Array): void {
    for (const [i, { offset, elementCount }] of this.#kept.entries())
      into.set(this.whole.subarray(offset, offset + elementCount), this.layout[i]!.offset);
  }

  async readParameters(into: Float32Array): Promise<void> {
    await this.#model.readParameters(this.#parameters);
    this.#isRead = true;
    this.whole.set(this.#parameters);
    this.gather(into);
  }

  writeParameters(from: Float32Array): void {
    assert(this.#isRead, "the frozen parameters are known before others are written");
    for (const [i, slot] of this.#kept.entries()) {
      const { offset, elementCount } = this.layout[i]!;
      this.#parameters.set(from.subarray(offset, offset + elementCount), slot.offset);
    }
    this.#model.writeParameters(this.#parameters);
  }
}

type Parameterised = Pick<TrainableModel, "layout" | "readParameters" | "writeParameters" | "spare"> &
  Layouts;
