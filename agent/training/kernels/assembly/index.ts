// Kernels of the optimizers: plain SIMD128, so the same bits on every machine. Never a relaxed operation here: ranks with
// and without fused multiply-add take the same step.

// @ts-ignore: decorator
@inline function splat(x: f64): v128 {
  return f64x2.splat(x);
}

/** Two f32 in the lower half of a vector, as f64. */
// @ts-ignore: decorator
@inline function wide(p: usize): v128 {
  return f64x2.promote_low_f32x4(v128.load64_zero(p));
}

/** Two f64, rounded to f32. */
// @ts-ignore: decorator
@inline function narrow(p: usize, x: v128): void {
  v128.store64_lane(p, f32x4.demote_f64x2_zero(x), 0);
}

/**
 * A step of Adam on `count` elements, in place; count is even. All is computed in f64, and rounded where an array takes it: to
 * the bit what JavaScript's numbers give for
 *   m = beta1 · m + (1 - beta1) · g;  v = beta2 · v + (1 - beta2) · g · g
 *   p -= rate · m · correction1 / (√(v · correction2) + epsilon)
 */
export function adam(
  p: usize, g: usize, m: usize, v: usize, count: i32,
  beta1: f64, beta2: f64, rate: f64, correction1: f64, correction2: f64, epsilon: f64,
): void {
  const b1 = splat(beta1), b2 = splat(beta2), gain1 = splat(1 - beta1), gain2 = splat(1 - beta2);
  const r = splat(rate), c1 = splat(correction1), c2 = splat(correction2), e = splat(epsilon);
  for (; count > 0; count -= 2, p += 8, g += 8, m += 8, v += 8) {
    const gradient = wide(g);
    const first = f64x2.add(f64x2.mul(b1, wide(m)), f64x2.mul(gain1, gradient));
    const second = f64x2.add(f64x2.mul(b2, wide(v)), f64x2.mul(f64x2.mul(gain2, gradient), gradient));
    narrow(m, first);
    narrow(v, second);
    const step = f64x2.mul(f64x2.mul(r, first), c1);
    narrow(p, f64x2.sub(wide(p), f64x2.div(step, f64x2.add(f64x2.sqrt(f64x2.mul(second, c2)), e))));
  }
}
