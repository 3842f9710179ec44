// Four lanes of float32, and what all kernels share.

export type Pointer = usize;

/** Flags of gemm and conv2d: what happens to a result on its way to memory. */
export const ACCUMULATE: i32 = 1;
export const RELU: i32 = 2;
export const BIAS: i32 = 4;

/** a * b + c; rounded once where the machine has a fused multiply-add and this build may use it. */
// @ts-ignore: decorator
@inline export function multiplyAdd(a: v128, b: v128, c: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return f32x4.relaxed_madd(a, b, c);
  return f32x4.add(f32x4.mul(a, b), c);
}

// @ts-ignore: decorator
@inline export function splat(x: f32): v128 {
  return f32x4.splat(x);
}

// @ts-ignore: decorator
@inline export function sumLanes(v: v128): f32 {
  return (f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 1)) + (f32x4.extract_lane(v, 2) + f32x4.extract_lane(v, 3));
}

// @ts-ignore: decorator
@inline export function maxLanes(v: v128): f32 {
  return max(
    max(f32x4.extract_lane(v, 0), f32x4.extract_lane(v, 1)),
    max(f32x4.extract_lane(v, 2), f32x4.extract_lane(v, 3)),
  );
}

/** Loads 1 to 3 elements; the other lanes are zero. */
// @ts-ignore: decorator
@inline export function loadTail(p: Pointer, n: i32): v128 {
  let v = v128.load32_zero(p);
  if (n > 1) v = v128.load_lane<f32>(p, v, 1, 4);
  if (n > 2) v = v128.load_lane<f32>(p, v, 2, 8);
  return v;
}

/** Stores the first 1 to 3 lanes. */
// @ts-ignore: decorator
@inline export function storeTail(p: Pointer, v: v128, n: i32): void {
  v128.store_lane<f32>(p, v, 0);
  if (n > 1) v128.store_lane<f32>(p, v, 1, 4);
  if (n > 2) v128.store_lane<f32>(p, v, 2, 8);
}

/** Loads four elements, or the n that are left with zeros behind them. */
// @ts-ignore: decorator
@inline export function loadLanes(p: Pointer, n: i32): v128 {
  return n >= 4 ? v128.load(p) : loadTail(p, n);
}

/** Stores four lanes, or the first n where fewer are left. */
// @ts-ignore: decorator
@inline export function storeLanes(p: Pointer, v: v128, n: i32): void {
  if (n >= 4) v128.store(p, v);
  else storeTail(p, v, n);
}

// A loop, not memory.copy: the runs are short (a pixel, a row of a window), and a call costs more than the bytes.
// @ts-ignore: decorator
@inline export function copyRun(to: Pointer, from: Pointer, n: i32): void {
  let i = n, o: usize = 0;
  for (; i >= 4; i -= 4, o += 16) v128.store(to + o, v128.load(from + o));
  for (; i > 0; i--, o += 4) store<f32>(to + o, load<f32>(from + o));
}

// @ts-ignore: decorator
@inline export function addRun(to: Pointer, from: Pointer, n: i32): void {
  let i = n, o: usize = 0;
  for (; i >= 4; i -= 4, o += 16) v128.store(to + o, f32x4.add(v128.load(to + o), v128.load(from + o)));
  for (; i > 0; i--, o += 4) store<f32>(to + o, load<f32>(to + o) + load<f32>(from + o));
}
