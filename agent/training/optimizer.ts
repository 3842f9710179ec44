import type { OptimizerSpec } from "../../protocol/job-spec.ts";
import type { TrainingState } from "./training-state.ts";

/**
 * Optimizers over the flat parameter array, in plain JavaScript: IEEE add, multiply, divide and square root in double,
 * rounded once to f32. Every rank takes the same step to the bit on any machine and with any engine. (Math.pow is not
 * the same everywhere, so Adam's beta powers are running products.) Cost: about 5 ns a parameter.
 */
export interface Optimizer {
  /** Names of its f32 [parameterCount] arrays and of its running scalars, with their values before the first step. */
  readonly slots: readonly string[];
  readonly scalars: Readonly<Record<string, number>>;
  /** One step, in place. `gradient` is the mean over the global batch. */
  apply(state: TrainingState, gradient: Float32Array, learningRate: number): void;
}

export function createOptimizer(spec: OptimizerSpec): Optimizer {
  return spec.kind === "adam" ? adam(spec) : sgd(spec);
}

/** Source: Kingma & Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1. */
function adam({ beta1, beta2, epsilon }: Extract<OptimizerSpec, { kind: "adam" }>): Optimizer {
  return {
    slots: ["firstMoment", "secondMoment"],
    scalars: { beta1Power: 1, beta2Power: 1 },
    apply: ({ parameters, slots, scalars }, gradient, learningRate) => {
      const first = slots.firstMoment!;
      const second = slots.secondMoment!;
      scalars.beta1Power! *= beta1;
      scalars.beta2Power! *= beta2;
      const correction1 = 1 / (1 - scalars.beta1Power!);
      const correction2 = 1 / (1 - scalars.beta2Power!);
      for (let i = 0; i < gradient.length; i++) {
        const g = gradient[i]!;
        const m = beta1 * first[i]! + (1 - beta1) * g;
        const v = beta2 * second[i]! + (1 - beta2) * g * g;
        first[i] = m;
        second[i] = v;
        parameters[i]! -= (learningRate * m * correction1) / (Math.sqrt(v * correction2) + epsilon);
      }
    },
  };
}

/** Stochastic gradient descent with classical momentum. Source: Polyak, 1964. */
function sgd({ momentum }: Extract<OptimizerSpec, { kind: "sgd" }>): Optimizer {
  if (momentum === 0) {
    return {
      slots: [],
      scalars: {},
      apply: ({ parameters }, gradient, learningRate) => {
        for (let i = 0; i < gradient.length; i++) parameters[i]! -= learningRate * gradient[i]!;
      },
    };
  }
  return {
    slots: ["velocity"],
    scalars: {},
    apply: ({ parameters, slots }, gradient, learningRate) => {
      const velocity = slots.velocity!;
      for (let i = 0; i < gradient.length; i++) {
        velocity[i] = momentum * velocity[i]! + gradient[i]!;
        parameters[i]! -= learningRate * velocity[i]!;
      }
    },
  };
}
