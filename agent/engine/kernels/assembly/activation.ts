// Element by element; `n` elements from `x` to `out`, which may be the same.

import { expLanes } from "./exponential";
import { loadLanes, multiplyAdd, Pointer, splat, storeLanes } from "./vector";

/** 1 / (1 + e^-x), without overflow at either end. */
// @ts-ignore: decorator
@inline export function sigmoidLanes(x: v128): v128 {
  return f32x4.div(splat(1), f32x4.add(splat(1), expLanes(f32x4.neg(x))));
}

/** Within 1.2e-7 of tanh. */
// @ts-ignore: decorator
@inline export function tanhLanes(x: v128): v128 {
  const e = expLanes(f32x4.add(x, x));
  return f32x4.sub(splat(1), f32x4.div(splat(2), f32x4.add(e, splat(1))));
}

/**
 * erf(x) given `gauss` = e^(-x²), within 1.5e-7.
 * Source: Abramowitz & Stegun, "Handbook of mathematical functions", 7.1.26; TF.js uses it too.
 */
// @ts-ignore: decorator
@inline function erfFrom(x: v128, gauss: v128): v128 {
  const t = f32x4.div(splat(1), multiplyAdd(splat(0.3275911), f32x4.abs(x), splat(1)));
  let p = multiplyAdd(splat(1.061405429), t, splat(-1.453152027));
  p = multiplyAdd(p, t, splat(1.421413741));
  p = multiplyAdd(p, t, splat(-0.284496736));
  p = multiplyAdd(p, t, splat(0.254829592));
  const y = f32x4.sub(splat(1), f32x4.mul(f32x4.mul(p, t), gauss));
  return v128.or(v128.and(y, i32x4.splat(0x7fffffff)), v128.and(x, i32x4.splat(0x80000000)));
}

export function erf(x: Pointer, out: Pointer, n: i32): void {
  for (; n > 0; n -= 4, x += 16, out += 16) {
    const v = loadLanes(x, n);
    storeLanes(out, erfFrom(v, expLanes(f32x4.neg(f32x4.mul(v, v)))), n);
  }
}

export function tanh(x: Pointer, out: Pointer, n: i32): void {
  for (; n > 0; n -= 4, x += 16, out += 16) storeLanes(out, tanhLanes(loadLanes(x, n)), n);
}

const SQRT_HALF: f32 = 0.70710678118;
/** Density of the normal distribution at 0: 1 / √(2π). */
const NORMAL_TOP: f32 = 0.3989422804;

/** x·Φ(x), Φ the distribution function of the normal distribution. */
export function gelu(x: Pointer, out: Pointer, n: i32): void {
  for (; n > 0; n -= 4, x += 16, out += 16) {
    const v = loadLanes(x, n), z = f32x4.mul(v, splat(SQRT_HALF));
    const cdf = f32x4.add(splat(0.5), f32x4.mul(splat(0.5), erfFrom(z, expLanes(f32x4.neg(f32x4.mul(z, z))))));
    storeLanes(out, f32x4.mul(v, cdf), n);
  }
}

export function geluGrad(x: Pointer, dy: Pointer, dx: Pointer, n: i32): void {
  for (; n > 0; n -= 4, x += 16, dy += 16, dx += 16) {
    const v = loadLanes(x, n), z = f32x4.mul(v, splat(SQRT_HALF));
    const gauss = expLanes(f32x4.neg(f32x4.mul(z, z)));
    const cdf = f32x4.add(splat(0.5), f32x4.mul(splat(0.5), erfFrom(z, gauss)));
    const slope = multiplyAdd(f32x4.mul(v, splat(NORMAL_TOP)), gauss, cdf);
    storeLanes(dx, f32x4.mul(loadLanes(dy, n), slope), n);
  }
}

/** 2·√(2/π) and the cubic term of the approximation by tanh; x·(1 + tanh(u))/2 is x·sigmoid(2u). */
const TANH_SCALE: f32 = 1.5957691216;
const TANH_CUBIC: f32 = 0.044715;

export function geluTanh(x: Pointer, out: Pointer, n: i32): void {
  for (; n > 0; n -= 4, x += 16, out += 16) {
    const v = loadLanes(x, n), square = f32x4.mul(v, v);
    const u = f32x4.mul(f32x4.mul(v, splat(TANH_SCALE)), multiplyAdd(splat(TANH_CUBIC), square, splat(1)));
    storeLanes(out, f32x4.mul(v, sigmoidLanes(u)), n);
  }
}

export function geluTanhGrad(x: Pointer, dy: Pointer, dx: Pointer, n: i32): void {
  for (; n > 0; n -= 4, x += 16, dy += 16, dx += 16) {
    const v = loadLanes(x, n), square = f32x4.mul(v, v);
    const u = f32x4.mul(f32x4.mul(v, splat(TANH_SCALE)), multiplyAdd(splat(TANH_CUBIC), square, splat(1)));
    const s = sigmoidLanes(u);
    const du = f32x4.mul(splat(TANH_SCALE), multiplyAdd(splat(3 * TANH_CUBIC), square, splat(1)));
    // s' = s·(1 - s)·u'
    const slope = multiplyAdd(f32x4.mul(v, du), f32x4.mul(s, f32x4.sub(splat(1), s)), s);
    storeLanes(dx, f32x4.mul(loadLanes(dy, n), slope), n);
  }
}
