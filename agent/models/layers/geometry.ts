import { z } from "zod";
import {
  activationSchema,
  glorotUniform,
  type Initializer,
  initializerOf,
  notSupported,
  zeros,
} from "./config.ts";

/** One weight tensor of a layer. */
export interface Weight {
  readonly name: string;
  readonly shape: readonly number[];
  readonly initializer: Initializer;
  /** Inputs and outputs that one element takes part in: what VarianceScaling scales by. */
  readonly fanIn: number;
  readonly fanOut: number;
  /** A running average of what batches show, which no gradient changes. */
  readonly isAverage?: true;
}

/** What follows from a layer's configuration and the shape that comes in. Shapes are without the batch dimension. */
export interface LayerGeometry {
  readonly outputShape: readonly number[];
  readonly weights: readonly Weight[];
  /** Of one example, forward; for layers without weights the operations that cost alike. */
  readonly multiplyAdds: number;
  /** Of one example, in training: what is kept for the way back beside the output, where that is much. */
  readonly keptElements?: number;
}

export const sizeOf = (shape: readonly number[]): number =>
  shape.reduce((product, length) => product * length, 1);

/** Becomes JOB_INVALID where the name of the layer is known. */
export class ShapeMismatch extends Error {}

export function imageShape(shape: readonly number[]): [number, number, number] {
  if (shape.length !== 3) {
    throw new ShapeMismatch(`needs [height, width, channels], but [${shape.join(", ")}] comes in`);
  }
  return shape as [number, number, number];
}

export const noWeights = (outputShape: readonly number[], multiplyAdds = 0): LayerGeometry => ({
  outputShape,
  weights: [],
  multiplyAdds,
});

export const biasConfig = {
  use_bias: z.boolean().default(true),
  bias_initializer: initializerOf(zeros),
  bias_regularizer: notSupported,
  bias_constraint: notSupported,
} as const;
export const kernelConfig = {
  kernel_initializer: initializerOf(glorotUniform),
  kernel_regularizer: notSupported,
  kernel_constraint: notSupported,
} as const;
export const activationConfig = {
  activation: activationSchema.nullish().transform((given) => given ?? "linear"),
} as const;

export const biasWeights = (
  config: { use_bias: boolean; bias_initializer: Initializer },
  length: number,
): Weight[] => (config.use_bias ? [channelWeight("bias", length, config.bias_initializer)] : []);

/** A weight whose elements belong to the channels of the last axis. */
export const channelWeight = (name: string, length: number, initializer: Initializer): Weight => ({
  name,
  shape: [length],
  initializer,
  fanIn: length,
  fanOut: length,
});
