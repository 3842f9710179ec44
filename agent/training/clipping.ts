import { type Optimizer, takeMean } from "./optimizer.ts";

/** @param norm of the mean gradient that the optimizer is given, at most */
export const withClipping = (optimizer: Optimizer, norm: number | undefined): Optimizer =>
  norm === undefined
    ? optimizer
    : {
        ...optimizer,
        apply: (state, gradient, learningRate, share) => {
          takeMean(gradient, share);
          clipToNorm(gradient, norm);
          optimizer.apply(state, gradient, learningRate);
        },
      };

/**
 * Scales `gradient` down to the length `norm`, in place, if it is longer: all tensors by the same factor, so that the
 * direction stays. The sum of squares is taken in layout order and in double, so each rank gets the same bits. A gradient
 * that is not finite stays as it is. Cost: one pass, two when it is scaled.
 * Source: Pascanu et al., "On the difficulty of training recurrent neural networks", 2013, algorithm 1.
 */
function clipToNorm(gradient: Float32Array, norm: number): void {
  shorten(gradient, { length: Math.sqrt(squaresOf(gradient)), norm });
}

export function squaresOf(gradient: Float32Array): number {
  let squares = 0;
  for (let i = 0; i < gradient.length; i++) squares += gradient[i]! * gradient[i]!;
  return squares;
}

/** Where a gradient lies in several parts. @param to.length of all parts together */
export function shorten(part: Float32Array, to: { readonly length: number; readonly norm: number }): void {
  const { length, norm } = to;
  if (!(length > norm) || !Number.isFinite(length)) return;
  const factor = norm / length;
  for (let i = 0; i < part.length; i++) part[i]! *= factor;
}
