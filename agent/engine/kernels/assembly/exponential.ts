import { loadTail, multiplyAdd, Pointer, splat, storeTail } from "./vector";

/**
 * e^x, about 1 ulp: 2^n * e^r with |r| <= ln2/2 by a Taylor polynomial of degree 7. 2^n comes in two factors, so that
 * both ends of the range round properly.
 */
export function expLanes(x: v128): v128 {
  x = f32x4.pmax(f32x4.pmin(x, splat(89)), splat(-104));
  const n = f32x4.nearest(f32x4.mul(x, splat(1.44269504088896)));
  // ln 2 in two parts: the first has few bits, so n times it is exact.
  let r = f32x4.sub(x, f32x4.mul(n, splat(0.693359375)));
  r = f32x4.add(r, f32x4.mul(n, splat(2.12194440e-4)));
  let p = splat(1.0 / 5040);
  p = multiplyAdd(p, r, splat(1.0 / 720));
  p = multiplyAdd(p, r, splat(1.0 / 120));
  p = multiplyAdd(p, r, splat(1.0 / 24));
  p = multiplyAdd(p, r, splat(1.0 / 6));
  p = multiplyAdd(p, r, splat(0.5));
  p = multiplyAdd(p, r, splat(1));
  p = multiplyAdd(p, r, splat(1));
  const i = i32x4.trunc_sat_f32x4_s(n), half = i32x4.shr_s(i, 1), rest = i32x4.sub(i, half);
  const bias = i32x4.splat(127);
  p = f32x4.mul(p, i32x4.shl(i32x4.add(half, bias), 23));
  return f32x4.mul(p, i32x4.shl(i32x4.add(rest, bias), 23));
}

/** Natural logarithm of a positive normal number: x = m * 2^e, m in [sqrt(1/2), sqrt(2)), atanh series. */
export function log(x: f32): f32 {
  const bits = reinterpret<i32>(x), shifted = bits - 0x3f3504f3;
  const e = shifted >> 23, m = reinterpret<f32>(bits - (e << 23));
  const s = (m - 1) / (m + 1), q = s * s;
  const series = <f32>1 + q * (<f32>(1.0 / 3) + q * (<f32>0.2 + q * (<f32>(1.0 / 7) + q * <f32>(1.0 / 9))));
  return <f32>e * <f32>0.6931471805599453 + <f32>2 * s * series;
}

export function exp(x: Pointer, out: Pointer, n: i32): void {
  for (; n >= 4; n -= 4, x += 16, out += 16) v128.store(out, expLanes(v128.load(x)));
  if (n) storeTail(out, expLanes(loadTail(x, n)), n);
}
