import type { Optimizer } from "../optimizer.ts";
import { initialState } from "../training-state.ts";
import type { OuterOptimizer } from "./outer-optimizer.ts";
import type { Synchronization } from "./synchronization.ts";

/**
 * Local optimizer steps, each rank on its slice of the global batch; at a synchronization point the outer optimizer takes
 * the mean of how far the ranks have moved. Every rank counts the same, however many examples it had.
 *
 * The inner optimizer's arrays are this rank's own: they outlive a synchronization point, are not part of the state, and
 * start from zero with each ring. So a rank that broke off in the middle, one that healed and one that was restarted
 * all go on with the same bits. Averaging them as well was the alternative: three times the bytes with Adam.
 */
export function localSteps({
  everySteps,
  inner,
  outer,
  parameterCount,
}: {
  readonly everySteps: number;
  readonly inner: Optimizer;
  readonly outer: OuterOptimizer;
  readonly parameterCount: number;
}): Synchronization {
  const local = initialState(parameterCount, inner);
  return {
    slots: outer.slots,
    scalars: {},
    everySteps,
    begin: ({ parameters }) => {
      local.parameters.set(parameters);
      for (const slot of Object.values(local.slots)) slot.fill(0);
      Object.assign(local.scalars, inner.scalars);
      return local.parameters;
    },
    step: (gradient, { lossWeight, learningRate }) => {
      if (lossWeight === 0) return undefined;
      for (let i = 0; i < gradient.length; i++) gradient[i]! /= lossWeight;
      inner.apply(local, gradient, learningRate);
      return local.parameters;
    },
    contribute: ({ parameters }, values) => {
      for (let i = 0; i < values.length; i++) values[i] = local.parameters[i]! - parameters[i]!;
    },
    apply: (state, sums, { contributorCount }) => {
      for (let i = 0; i < sums.length; i++) sums[i]! /= contributorCount;
      outer.apply(state, sums);
      local.parameters.set(state.parameters);
    },
  };
}
