import type { Optimizer } from "../optimizer.ts";
import type { Synchronization } from "./synchronization.ts";

/** Synchronous data parallel training: the mean gradient of the global batch, and the same optimizer step on each rank. */
export function everyStep(optimizer: Optimizer): Synchronization {
  return {
    slots: optimizer.slots,
    scalars: optimizer.scalars,
    ...(optimizer.newArrays ? { newArrays: optimizer.newArrays } : {}),
    everySteps: 1,
    begin: () => undefined,
    step: () => undefined,
    contribute: () => {},
    apply: (state, sums, { lossWeight, learningRate }) =>
      optimizer.apply(state, sums, learningRate, 1 / lossWeight),
  };
}
