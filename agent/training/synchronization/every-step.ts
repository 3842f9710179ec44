import type { Optimizer } from "../optimizer.ts";
import type { Synchronization } from "./synchronization.ts";

/** Synchronous data parallel training: the mean gradient of the global batch, and the same optimizer step on each rank. */
export function everyStep(optimizer: Optimizer): Synchronization {
  return {
    slots: optimizer.slots,
    scalars: optimizer.scalars,
    everySteps: 1,
    begin: () => undefined,
    step: () => undefined,
    contribute: () => {},
    apply: (state, sums, { targetCount, learningRate }) => {
      // A product in f32, which V8 computes without a way through f64: a division takes three times as long.
      const share = Math.fround(1 / targetCount);
      for (let i = 0; i < sums.length; i++) sums[i] = Math.fround(sums[i]! * share);
      optimizer.apply(state, sums, learningRate);
    },
  };
}
