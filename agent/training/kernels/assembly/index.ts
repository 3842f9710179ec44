// Kernels of the optimizers: plain SIMD128, so the same bits on every machine. Never a relaxed operation here: ranks with
// and without fused multiply-add take the same step.

/**
 * A step of Adam on `count` f32 elements, in place; count is a multiple of four. Every operation is rounded to f32, in the order
 *   g = share · gradient
 *   m = beta1 · m + gain1 · g;  v = beta2 · v + (gain2 · g) · g
 *   p = p - (rate · m) / (√(v · correction) + epsilon)
 */
export function adam(
  p: usize, g: usize, m: usize, v: usize, count: i32,
  beta1: f32, beta2: f32, gain1: f32, gain2: f32, rate: f32, correction: f32, epsilon: f32, share: f32,
): void {
  for (; count > 0; count -= 4, p += 16, g += 16, m += 16, v += 16) {
    const gradient = f32x4.mul(f32x4.splat(share), v128.load(g));
    const first = f32x4.add(
      f32x4.mul(f32x4.splat(beta1), v128.load(m)),
      f32x4.mul(f32x4.splat(gain1), gradient),
    );
    const second = f32x4.add(
      f32x4.mul(f32x4.splat(beta2), v128.load(v)),
      f32x4.mul(f32x4.mul(f32x4.splat(gain2), gradient), gradient),
    );
    v128.store(m, first);
    v128.store(v, second);
    const root = f32x4.sqrt(f32x4.mul(second, f32x4.splat(correction)));
    const step = f32x4.div(f32x4.mul(f32x4.splat(rate), first), f32x4.add(root, f32x4.splat(epsilon)));
    v128.store(p, f32x4.sub(v128.load(p), step));
  }
}
