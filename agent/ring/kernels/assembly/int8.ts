// Eight bits an element, with one f32 scale for each block of 256: first the scales of all blocks, then the values.
//
//   scale = largest magnitude of the block / 127, value = nearest(v / scale), ties to even
//
// A block with an infinity or a NaN gets a NaN for its scale, so all of it decodes to NaN and is noticed. A block whose
// scale would be denormal is sent as zeros: 1 / scale could overflow. Error feedback keeps what that loses.

const BLOCK: i32 = 256;
const SMALLEST_NORMAL: f32 = reinterpret<f32>(0x00800000);
const INFINITY_BITS: i32 = 0x7f800000;
const NOT_A_NUMBER: u32 = 0x7fc00000;
/**
 * 1.5 * 2^23: adding it to a number below 2^22 rounds that to a whole one, ties to even, which then is the difference
 * of the bits. Two instructions, where `nearest` and `trunc_sat` take ten.
 */
const MAGIC: f32 = 12582912;

/** Where the sums of one block wait for their scale: bytes 0 to 1023 of the memory (agent/ring/memory.ts). */
const SUMS: usize = 0;

/** Elements 0-3, 4-7, 8-11 or 12-15 of 16 values. */
// @ts-ignore: decorator
@inline function widen(values: v128, quarter: i32): v128 {
  const half = quarter < 2 ? i16x8.extend_low_i8x16_s(values) : i16x8.extend_high_i8x16_s(values);
  return f32x4.convert_i32x4_s(
    (quarter & 1) == 0 ? i32x4.extend_low_i16x8_s(half) : i32x4.extend_high_i16x8_s(half),
  );
}

// Inlined with constant `has...`, as in bf16.ts. The largest magnitude is found among the bits: those of a positive
// float order as integers, with infinity above all numbers and every NaN above infinity.
// @ts-ignore: decorator
@inline function sum16(
  x: usize,
  values: usize,
  scale: v128,
  residual: usize,
  sums: usize,
  largest: v128,
  hasValues: bool,
  hasResidual: bool,
): v128 {
  let a = v128.load(x), b = v128.load(x, 16), c = v128.load(x, 32), d = v128.load(x, 48);
  if (hasResidual) {
    a = f32x4.add(a, v128.load(residual));
    b = f32x4.add(b, v128.load(residual, 16));
    c = f32x4.add(c, v128.load(residual, 32));
    d = f32x4.add(d, v128.load(residual, 48));
  }
  if (hasValues) {
    const q = v128.load(values);
    a = f32x4.add(a, f32x4.mul(widen(q, 0), scale));
    b = f32x4.add(b, f32x4.mul(widen(q, 1), scale));
    c = f32x4.add(c, f32x4.mul(widen(q, 2), scale));
    d = f32x4.add(d, f32x4.mul(widen(q, 3), scale));
  }
  v128.store(sums, a);
  v128.store(sums, b, 16);
  v128.store(sums, c, 32);
  v128.store(sums, d, 48);
  const ab = i32x4.max_s(f32x4.abs(a), f32x4.abs(b));
  const cd = i32x4.max_s(f32x4.abs(c), f32x4.abs(d));
  return i32x4.max_s(largest, i32x4.max_s(ab, cd));
}

/** Sums of one block to SUMS. @returns bits of their largest magnitude, in four lanes */
// @ts-ignore: decorator
@inline function sumBlock(
  x: usize,
  values: usize,
  scale: f32,
  residual: usize,
  count: i32,
  hasValues: bool,
  hasResidual: bool,
): v128 {
  const scales = f32x4.splat(scale);
  let largest = i32x4.splat(0);
  let sums = SUMS;
  let i = count;
  for (; i >= 16; i -= 16, x += 64, sums += 64) {
    largest = sum16(x, values, scales, residual, sums, largest, hasValues, hasResidual);
    if (hasResidual) residual += 64;
    if (hasValues) values += 16;
  }
  for (; i > 0; i--, x += 4, sums += 4) {
    let v = load<f32>(x);
    if (hasResidual) {
      v += load<f32>(residual);
      residual += 4;
    }
    if (hasValues) {
      v += <f32>load<i8>(values) * scale;
      values += 1;
    }
    store<f32>(sums, v);
    largest = i32x4.max_s(largest, f32x4.splat(abs<f32>(v)));
  }
  return largest;
}

function sumAnyBlock(x: usize, values: usize, scale: f32, residual: usize, count: i32): v128 {
  if (values) {
    if (residual) return sumBlock(x, values, scale, residual, count, true, true);
    return sumBlock(x, values, scale, residual, count, true, false);
  }
  if (residual) return sumBlock(x, values, scale, residual, count, false, true);
  return sumBlock(x, values, scale, residual, count, false, false);
}

// @ts-ignore: decorator
@inline function scaleOf(largest: v128): f32 {
  const bits = max<i32>(
    max<i32>(i32x4.extract_lane(largest, 0), i32x4.extract_lane(largest, 1)),
    max<i32>(i32x4.extract_lane(largest, 2), i32x4.extract_lane(largest, 3)),
  );
  if (bits >= INFINITY_BITS) return reinterpret<f32>(NOT_A_NUMBER);
  const scale = reinterpret<f32>(bits) / 127;
  return scale < SMALLEST_NORMAL ? 0 : scale;
}

/** v / scale plus MAGIC: the whole number is in the low bits. */
// @ts-ignore: decorator
@inline function rounded(v: v128, inverse: v128): v128 {
  return f32x4.add(f32x4.mul(v, inverse), f32x4.splat(MAGIC));
}

// @ts-ignore: decorator
@inline function wholeBits(magic: v128): v128 {
  return i32x4.sub(magic, f32x4.splat(MAGIC));
}

// @ts-ignore: decorator
@inline function decoded(magic: v128, scale: v128): v128 {
  return f32x4.mul(f32x4.sub(magic, f32x4.splat(MAGIC)), scale);
}

/** Values of one block from SUMS, and what they lose and leave. */
function quantiseBlock(values: usize, x: usize, scale: f32, residual: usize, keep: bool, count: i32): void {
  const inverse = f32x4.splat(scale == 0 ? 0 : 1 / scale);
  const scales = f32x4.splat(scale);
  let sums = SUMS;
  let i = count;
  for (; i >= 16; i -= 16, values += 16, sums += 64) {
    const a = v128.load(sums), b = v128.load(sums, 16), c = v128.load(sums, 32), d = v128.load(sums, 48);
    const ma = rounded(a, inverse), mb = rounded(b, inverse), mc = rounded(c, inverse), md = rounded(d, inverse);
    const low = i16x8.narrow_i32x4_s(wholeBits(ma), wholeBits(mb));
    const high = i16x8.narrow_i32x4_s(wholeBits(mc), wholeBits(md));
    v128.store(values, i8x16.narrow_i16x8_s(low, high));
    if (residual) {
      v128.store(residual, f32x4.sub(a, decoded(ma, scales)));
      v128.store(residual, f32x4.sub(b, decoded(mb, scales)), 16);
      v128.store(residual, f32x4.sub(c, decoded(mc, scales)), 32);
      v128.store(residual, f32x4.sub(d, decoded(md, scales)), 48);
      residual += 64;
    }
    if (keep) {
      v128.store(x, decoded(ma, scales));
      v128.store(x, decoded(mb, scales), 16);
      v128.store(x, decoded(mc, scales), 32);
      v128.store(x, decoded(md, scales), 48);
      x += 64;
    }
  }
  for (; i > 0; i--, values += 1, sums += 4) {
    const v = load<f32>(sums);
    const magic = rounded(f32x4.splat(v), inverse);
    store<i8>(values, <i8>i32x4.extract_lane(wholeBits(magic), 0));
    const kept = f32x4.extract_lane(decoded(magic, scales), 0);
    if (residual) {
      store<f32>(residual, v - kept);
      residual += 4;
    }
    if (keep) {
      store<f32>(x, kept);
      x += 4;
    }
  }
}

export function encodeInt8(out: usize, x: usize, addend: usize, residual: usize, keep: bool, count: i32): void {
  const scaleBytes = <usize>((count + BLOCK - 1) / BLOCK) << 2;
  let values = out + scaleBytes;
  let addendValues: usize = addend ? addend + scaleBytes : 0;
  for (let i = count; i > 0; i -= BLOCK) {
    const n = min(i, BLOCK);
    const scale = scaleOf(sumAnyBlock(x, addendValues, addend ? load<f32>(addend) : 0, residual, n));
    store<f32>(out, scale);
    quantiseBlock(values, x, scale, residual, keep, n);
    out += 4;
    values += n;
    x += <usize>n << 2;
    if (addend) {
      addend += 4;
      addendValues += n;
    }
    if (residual) residual += <usize>n << 2;
  }
}

export function decodeInt8(x: usize, payload: usize, count: i32): void {
  let values = payload + (<usize>((count + BLOCK - 1) / BLOCK) << 2);
  for (let i = count; i > 0; i -= BLOCK, payload += 4) {
    const scale = load<f32>(payload);
    const scales = f32x4.splat(scale);
    let n = min(i, BLOCK);
    for (; n >= 16; n -= 16, values += 16, x += 64) {
      const q = v128.load(values);
      v128.store(x, f32x4.mul(widen(q, 0), scales));
      v128.store(x, f32x4.mul(widen(q, 1), scales), 16);
      v128.store(x, f32x4.mul(widen(q, 2), scales), 32);
      v128.store(x, f32x4.mul(widen(q, 3), scales), 48);
    }
    for (; n > 0; n--, values += 1, x += 4) store<f32>(x, <f32>load<i8>(values) * scale);
  }
}
