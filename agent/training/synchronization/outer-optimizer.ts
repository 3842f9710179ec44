import { outerVelocity, type TrainingState } from "../training-state.ts";

/** What a synchronization point makes of the mean change of the parameters since the last one. */
export interface OuterOptimizer {
  readonly slots: readonly string[];
  /** In place. @param change f32 [parameterCount], the mean over the ranks */
  apply(state: TrainingState, change: Float32Array): void;
}

/**
 * The mean of the ranks' parameters: theta = (1/m) sum theta_i.
 * Source: Stich, "Local SGD converges fast and communicates little", 2019, algorithm 1.
 */
export const averaging: OuterOptimizer = {
  slots: [],
  apply: ({ parameters }, change) => {
    for (let i = 0; i < change.length; i++) parameters[i]! += change[i]!;
  },
};

/**
 * Nesterov momentum over the changes, as if each were a step downhill.
 * Source: Douillard et al., "DiLoCo", 2023, algorithm 1; Sutskever et al., "On the importance of initialization and
 * momentum in deep learning", 2013, in the form that needs no look ahead.
 */
export function nesterov(options: {
  readonly outerLearningRate: number;
  readonly outerMomentum: number;
}): OuterOptimizer {
  const { outerLearningRate, outerMomentum } = options;
  return {
    slots: [outerVelocity],
    apply: ({ parameters, slots }, change) => {
      const velocity = slots[outerVelocity]!;
      for (let i = 0; i < change.length; i++) {
        velocity[i] = outerMomentum * velocity[i]! + change[i]!;
        parameters[i]! += outerLearningRate * (change[i]! + outerMomentum * velocity[i]!);
      }
    },
  };
}
