import type { OptimizerSpec } from "../../protocol/training-spec.ts";
import type { ParameterSlot } from "../engine/port.ts";
import { adamStepper } from "./kernels/adam.ts";
import type { TrainingState } from "./training-state.ts";

/**
 * Optimizers over the flat parameter array, in plain JavaScript: IEEE add, multiply, divide and square root in double,
 * rounded to f32 where an array takes the result. Every rank takes the same step to the bit on any machine and with any
 * engine. (Math.pow is not the same everywhere, so Adam's beta powers are running products.) Cost: about 5 ns a
 * parameter; Adam, in f32 and WebAssembly, 1 to 2.
 */
export interface Optimizer {
  /** Names of its f32 [parameterCount] arrays and of its running scalars, with their values before the first step. */
  readonly slots: readonly string[];
  readonly scalars: Readonly<Record<string, number>>;
  /** Arrays of zeros for a state, where they lie best for this optimizer; anywhere unless told. */
  readonly newArrays?: (parameterCount: number) => Pick<TrainingState, "parameters" | "slots">;
  /**
   * One step, in place. The mean over the global batch is `gradient` times `share` as f32, 1 unless told: who has a sum leaves
   * the product to whoever goes over it anyway. It may be overwritten.
   */
  apply(state: TrainingState, gradient: Float32Array, learningRate: number, share?: number): void;
}

/** @param layout tells what weight decay is for */
export function createOptimizer(spec: OptimizerSpec, layout: readonly ParameterSlot[]): Optimizer {
  switch (spec.kind) {
    case "sgd":
      return spec.weightDecay
        ? decayingGradient(sgd(spec), spec.weightDecay, decayedRanges(layout))
        : sgd(spec);
    case "adam":
      return adam(spec);
    case "adamw":
      return decayingWeights(adam(spec), spec.weightDecay, decayedRanges(layout));
    case "rmsprop":
      return rmsprop(spec);
  }
}

/** Source: Kingma & Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1. */
function adam(spec: { readonly beta1: number; readonly beta2: number; readonly epsilon: number }): Optimizer {
  const { beta1, beta2, epsilon } = spec;
  const { step, newArrays } = adamStepper();
  return {
    slots: ["firstMoment", "secondMoment"],
    scalars: { beta1Power: 1, beta2Power: 1 },
    newArrays: (parameterCount) => {
      const { parameters, ...slots } = newArrays(parameterCount);
      return { parameters, slots };
    },
    apply: ({ parameters, slots, scalars }, gradient, learningRate, share = 1) => {
      scalars.beta1Power! *= beta1;
      scalars.beta2Power! *= beta2;
      const arrays = {
        parameters,
        gradient,
        firstMoment: slots.firstMoment!,
        secondMoment: slots.secondMoment!,
      };
      const correction1 = 1 / (1 - scalars.beta1Power!);
      const correction2 = 1 / (1 - scalars.beta2Power!);
      step(arrays, { beta1, beta2, rate: learningRate, correction1, correction2, epsilon, share });
    },
  };
}

/**
 * Stochastic gradient descent with classical momentum, or Nesterov's in the form that needs no look ahead.
 * Sources: Polyak, 1964; Sutskever et al., "On the importance of initialization and momentum in deep learning", 2013.
 */
function sgd({ momentum, nesterov = false }: Extract<OptimizerSpec, { kind: "sgd" }>): Optimizer {
  if (momentum === 0) {
    return {
      slots: [],
      scalars: {},
      apply: ({ parameters }, gradient, learningRate, share) => {
        takeMean(gradient, share);
        for (let i = 0; i < gradient.length; i++) parameters[i]! -= learningRate * gradient[i]!;
      },
    };
  }
  return {
    slots: ["velocity"],
    scalars: {},
    apply: ({ parameters, slots }, gradient, learningRate, share) => {
      takeMean(gradient, share);
      const velocity = slots.velocity!;
      for (let i = 0; i < gradient.length; i++) {
        velocity[i] = momentum * velocity[i]! + gradient[i]!;
        const direction = nesterov ? gradient[i]! + momentum * velocity[i]! : velocity[i]!;
        parameters[i]! -= learningRate * direction;
      }
    },
  };
}

/**
 * Divides each gradient by a running mean of its magnitude. With momentum, velocities are of the divided gradients.
 * Source: Tieleman & Hinton, "Lecture 6.5: RMSProp", 2012.
 */
function rmsprop(spec: Extract<OptimizerSpec, { kind: "rmsprop" }>): Optimizer {
  const { decay, momentum, epsilon } = spec;
  return {
    slots: momentum === 0 ? ["meanSquare"] : ["meanSquare", "velocity"],
    scalars: {},
    apply: ({ parameters, slots }, gradient, learningRate, share) => {
      takeMean(gradient, share);
      const meanSquare = slots.meanSquare!;
      const { velocity } = slots;
      for (let i = 0; i < gradient.length; i++) {
        const g = gradient[i]!;
        const square = decay * meanSquare[i]! + (1 - decay) * g * g;
        meanSquare[i] = square;
        let direction = g / (Math.sqrt(square) + epsilon);
        if (velocity) {
          velocity[i] = momentum * velocity[i]! + direction;
          direction = velocity[i]!;
        }
        parameters[i]! -= learningRate * direction;
      }
    },
  };
}

/** In place. A product in f32, which V8 computes without a way through f64: a division takes three times as long. */
export function takeMean(gradient: Float32Array, share = 1): void {
  if (share === 1) return;
  const factor = Math.fround(share);
  for (let i = 0; i < gradient.length; i++) gradient[i] = Math.fround(gradient[i]! * factor);
}

interface Range {
  readonly start: number;
  readonly end: number;
}

/** Kernels and embeddings decay; biases and the scales of normalisations, which are vectors, do not. */
const decayedRanges = (layout: readonly ParameterSlot[]): Range[] =>
  layout
    .filter(({ shape }) => shape.length >= 2)
    .map(({ offset, elementCount }) => ({ start: offset, end: offset + elementCount }));

/** Source: Loshchilov & Hutter, "Decoupled weight decay regularization", 2019, algorithm 2. */
const decayingWeights = (optimizer: Optimizer, weightDecay: number, ranges: readonly Range[]): Optimizer => ({
  ...optimizer,
  apply: (state, gradient, learningRate, share) => {
    const { parameters } = state;
    for (const { start, end } of ranges)
      for (let i = start; i < end; i++) parameters[i]! -= learningRate * weightDecay * parameters[i]!;
    optimizer.apply(state, gradient, learningRate, share);
  },
});

/** The gradient of a penalty on the squares of the weights, added to that of the loss. */
const decayingGradient = (
  optimizer: Optimizer,
  weightDecay: number,
  ranges: readonly Range[],
): Optimizer => ({
  ...optimizer,
  apply: (state, gradient, learningRate, share) => {
    takeMean(gradient, share);
    for (const { start, end } of ranges)
      for (let i = start; i < end; i++) gradient[i]! += weightDecay * state.parameters[i]!;
    optimizer.apply(state, gradient, learningRate);
  },
});
