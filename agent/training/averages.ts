import type { ParameterSlot } from "../engine/port.ts";
import { type Optimizer, takeMean } from "./optimizer.ts";

/**
 * Running averages (batch normalisation) among the parameters: what the ranks' batches showed rides in the gradient vector,
 * as the mean over all targets of how much is to be taken away. It is applied as it is, by the same arithmetic on each rank,
 * so averages stay equal to the bit; neither the learning rate nor momentum, decay or clipping is about them.
 */
export function withAverages(optimizer: Optimizer, layout: readonly ParameterSlot[]): Optimizer {
  const averages = layout.filter(({ isAverage }) => isAverage);
  if (averages.length === 0) return optimizer;
  return {
    ...optimizer,
    apply: (state, gradient, learningRate, share) => {
      takeMean(gradient, share);
      const { parameters } = state;
      const next = averages.map(({ offset, elementCount }) => {
        const change = gradient.subarray(offset, offset + elementCount);
        const values = Float32Array.from(change, (each, i) => parameters[offset + i]! - each);
        change.fill(0);
        return { offset, values };
      });
      optimizer.apply(state, gradient, learningRate);
      for (const { offset, values } of next) parameters.set(values, offset);
    },
  };
}
