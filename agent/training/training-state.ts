import { createHash } from "node:crypto";
import { z } from "zod";
import { RingfoldError } from "../../protocol/errors.ts";
import type { TrainingPoint } from "../../protocol/messages/job.ts";
import { decodeSafetensors, encodeSafetensors, type NamedTensor } from "../../protocol/safetensors.ts";
import type { ParameterSlot } from "../engine/port.ts";
import type { Optimizer } from "./optimizer.ts";

/** Slot of the outer optimizer; only jobs whose ranks take local steps have it. */
export const outerVelocity = "outerVelocity";

/** Everything that a synchronization point changes: equal on all ranks, to the bit, after each of them. */
export interface TrainingState {
  /** Completed steps. */
  step: number;
  /** f32, shape [parameterCount], in layout order. */
  readonly parameters: Float32Array;
  /** The arrays of the optimizer, the outer one where there are two; f32 [parameterCount] each. */
  readonly slots: Record<string, Float32Array>;
  readonly scalars: Record<string, number>;
}

/** Those of a part of a model where only that is trained. */
export const parameterCountOf = (layout: readonly ParameterSlot[]): number =>
  layout.reduce((sum, { elementCount }) => sum + elementCount, 0);

export function initialState(
  parameterCount: number,
  { slots, scalars, newArrays }: Pick<Optimizer, "slots" | "scalars" | "newArrays">,
): TrainingState {
  const arrays = newArrays?.(parameterCount) ?? {
    parameters: new Float32Array(parameterCount),
    slots: Object.fromEntries(slots.map((name) => [name, new Float32Array(parameterCount)])),
  };
  return { step: 0, ...arrays, scalars: { ...scalars } };
}

/**
 * Where this state stands: completed steps and SHA-256 of the parameters, and of the outer optimizer's momentum behind them:
 * at a synchronization point it decides as much about the next one. Cost: about 2 ms a million parameters.
 */
export function trainingPoint({ step, parameters, slots }: TrainingState): TrainingPoint {
  const hash = createHash("sha256").update(bytesOf(parameters));
  const velocity = slots[outerVelocity];
  if (velocity) hash.update(bytesOf(velocity));
  return { step, hash: hash.digest("hex") };
}

/** A checkpoint: safetensors with the parameters under their names, the optimizer's arrays, and scalars as metadata. */
export function encodeState(state: TrainingState, layout: readonly ParameterSlot[]): Uint8Array {
  const optimizerTensors = Object.entries(state.slots).map(
    ([name, data]): NamedTensor => ({ name: `optimizer/${name}`, shape: [data.length], data }),
  );
  return encodeSafetensors([...parameterTensors(state, layout), ...optimizerTensors], {
    step: String(state.step),
    scalars: JSON.stringify(state.scalars), // a JavaScript number survives JSON to the bit
  });
}

/** Only the weights, as a version holds them. */
export function encodeWeights(
  state: Pick<TrainingState, "parameters">,
  layout: readonly ParameterSlot[],
): Uint8Array {
  return encodeSafetensors(parameterTensors(state, layout));
}

/** Overwrites `state` with a checkpoint. @throws RingfoldError ARTEFACT_CORRUPT when it is of another model */
export function restoreState(
  state: TrainingState,
  bytes: Uint8Array,
  layout: readonly ParameterSlot[],
): void {
  const { tensors, metadata } = decodeSafetensors(bytes);
  const found = new Map(tensors.map((tensor) => [tensor.name, tensor.data]));
  const take = (name: string, elementCount: number): Float32Array => {
    const data = found.get(name);
    if (data?.length !== elementCount)
      throw new RingfoldError("ARTEFACT_CORRUPT", `checkpoint: tensor ${name} does not fit`);
    return data;
  };
  const parameters = layout.map(({ name, elementCount, offset }) => ({
    offset,
    data: take(name, elementCount),
  }));
  const slots = Object.entries(state.slots).map(([name, slot]) => ({
    slot,
    data: take(`optimizer/${name}`, slot.length),
  }));
  const { step, scalars } = readScalars(metadata, Object.keys(state.scalars));
  // Nothing is touched before everything fits: a bad checkpoint leaves the state as it was.
  for (const { offset, data } of parameters) state.parameters.set(data, offset);
  for (const { slot, data } of slots) slot.set(data);
  Object.assign(state.scalars, scalars);
  state.step = step;
}

/** The numbers of a checkpoint; `names` are those that the optimizer needs, no more and no less. */
function readScalars(metadata: Readonly<Record<string, string>>, names: readonly string[]) {
  const schema = z.object({
    step: z
      .string()
      .regex(/^\d{1,15}$/)
      .transform(Number),
    scalars: z
      .string()
      .transform((text) => JSON.parse(text))
      .pipe(z.strictObject(Object.fromEntries(names.map((name) => [name, z.number()])))),
  });
  try {
    return schema.parse(metadata);
  } catch (cause) {
    throw new RingfoldError("ARTEFACT_CORRUPT", "checkpoint: step or scalars do not fit", {}, { cause });
  }
}

function parameterTensors(
  state: Pick<TrainingState, "parameters">,
  layout: readonly ParameterSlot[],
): NamedTensor[] {
  return layout.map(({ name, shape, offset, elementCount }) => ({
    name,
    shape,
    data: state.parameters.subarray(offset, offset + elementCount),
  }));
}

const bytesOf = (array: Float32Array): Uint8Array =>
  new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
