// bfloat16: the upper half of an f32, rounded to nearest, ties to even. Infinities stay, a NaN stays a NaN (its quiet
// bit is set, as rounding could carry a NaN into an infinity), and what is beyond the largest bf16 becomes infinite.

/** The rounded value in the upper half of each lane; the lower half is still to be cut off. */
// @ts-ignore: decorator
@inline function round(v: v128): v128 {
  const odd = v128.and(i32x4.shr_u(v, 16), i32x4.splat(1));
  const rounded = i32x4.add(v, i32x4.add(odd, i32x4.splat(0x7fff)));
  return v128.bitselect(v128.or(v, i32x4.splat(0x400000)), rounded, f32x4.ne(v, v));
}

// @ts-ignore: decorator
@inline function cutOff(rounded: v128): v128 {
  return v128.and(rounded, i32x4.splat(0xffff0000));
}

// @ts-ignore: decorator
@inline function widenLow(halves: v128): v128 {
  return i32x4.shl(i32x4.extend_low_i16x8_u(halves), 16);
}

// @ts-ignore: decorator
@inline function widenHigh(halves: v128): v128 {
  return i32x4.shl(i32x4.extend_high_i16x8_u(halves), 16);
}

// Inlined with constant `has...`: each combination is a loop without branches.
// @ts-ignore: decorator
@inline function encode(
  out: usize,
  x: usize,
  addend: usize,
  residual: usize,
  keep: bool,
  count: i32,
  hasAddend: bool,
  hasResidual: bool,
): void {
  let i = count;
  for (; i >= 8; i -= 8, out += 16, x += 32) {
    let low = v128.load(x);
    let high = v128.load(x, 16);
    if (hasResidual) {
      low = f32x4.add(low, v128.load(residual));
      high = f32x4.add(high, v128.load(residual, 16));
    }
    if (hasAddend) {
      const halves = v128.load(addend);
      low = f32x4.add(low, widenLow(halves));
      high = f32x4.add(high, widenHigh(halves));
      addend += 16;
    }
    const roundedLow = round(low);
    const roundedHigh = round(high);
    v128.store(out, i16x8.narrow_i32x4_u(i32x4.shr_u(roundedLow, 16), i32x4.shr_u(roundedHigh, 16)));
    if (hasResidual) {
      v128.store(residual, f32x4.sub(low, cutOff(roundedLow)));
      v128.store(residual, f32x4.sub(high, cutOff(roundedHigh)), 16);
      residual += 32;
    }
    if (keep) {
      v128.store(x, cutOff(roundedLow));
      v128.store(x, cutOff(roundedHigh), 16);
    }
  }
  // The rest one by one, in lane 0 of the same arithmetic.
  for (; i > 0; i--, out += 2, x += 4) {
    let v = v128.load32_zero(x);
    if (hasResidual) v = f32x4.add(v, v128.load32_zero(residual));
    if (hasAddend) {
      v = f32x4.add(v, i32x4.splat(<i32>load<u16>(addend) << 16));
      addend += 2;
    }
    const rounded = round(v);
    store<u16>(out, <u16>(i32x4.extract_lane(rounded, 0) >>> 16));
    if (hasResidual) {
      store<f32>(residual, f32x4.extract_lane(f32x4.sub(v, cutOff(rounded)), 0));
      residual += 4;
    }
    if (keep) v128.store_lane<u32>(x, cutOff(rounded), 0);
  }
}

export function encodeBf16(out: usize, x: usize, addend: usize, residual: usize, keep: bool, count: i32): void {
  if (addend) {
    if (residual) encode(out, x, addend, residual, keep, count, true, true);
    else encode(out, x, addend, residual, keep, count, true, false);
  } else if (residual) encode(out, x, addend, residual, keep, count, false, true);
  else encode(out, x, addend, residual, keep, count, false, false);
}

export function decodeBf16(x: usize, payload: usize, count: i32): void {
  let i = count;
  for (; i >= 8; i -= 8, payload += 16, x += 32) {
    const halves = v128.load(payload);
    v128.store(x, widenLow(halves));
    v128.store(x, widenHigh(halves), 16);
  }
  for (; i > 0; i--, payload += 2, x += 4) store<u32>(x, (<u32>load<u16>(payload)) << 16);
}
