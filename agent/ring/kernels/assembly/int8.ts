// Eight bits an element, with one f32 scale for each block of 256: first the scales of all blocks, then the values.
//
//   scale = largest magnitude of the block / 127, value = nearest(v / scale), ties to even
//
// A block with an infinity or a NaN gets a NaN for its scale, so all of it decodes to NaN and is noticed. A block whose
// scale would be denormal is sent as zeros: 1 / scale could overflow. Error feedback keeps what that loses.

const BLOCK: i32 = 256;
const SMALLEST_NORMAL: f32 = reinterpret<f32>(0x00800000);
const NOT_A_NUMBER: u32 = 0x7fc00000;

/** Where the sums of one block wait for their scale: bytes 0 to 1023 of the memory (agent/ring/memory.ts). */
const SUMS: usize = 0;

// @ts-ignore: decorator
@inline function dequantised(values: usize, scale: v128): v128 {
  const wide = i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(v128.load32_zero(values)));
  return f32x4.mul(f32x4.convert_i32x4_s(wide), scale);
}

// @ts-ignore: decorator
@inline function quantised(v: v128, inverse: v128): v128 {
  return i32x4.trunc_sat_f32x4_s(f32x4.nearest(f32x4.mul(v, inverse)));
}

/** Sums of one block to SUMS. @returns their largest magnitude in the four lanes; NaN where one is NaN */
function sumBlock(x: usize, values: usize, scale: f32, residual: usize, count: i32): v128 {
  const scales = f32x4.splat(scale);
  let largest = f32x4.splat(0);
  let sums = SUMS;
  let i = count;
  for (; i >= 4; i -= 4, x += 16, sums += 16) {
    let v = v128.load(x);
    if (residual) {
      v = f32x4.add(v, v128.load(residual));
      residual += 16;
    }
    if (values) {
      v = f32x4.add(v, dequantised(values, scales));
      values += 4;
    }
    v128.store(sums, v);
    largest = f32x4.max(largest, f32x4.abs(v));
  }
  for (; i > 0; i--, x += 4, sums += 4) {
    let v = load<f32>(x);
    if (residual) {
      v += load<f32>(residual);
      residual += 4;
    }
    if (values) {
      v += <f32>load<i8>(values) * scale;
      values += 1;
    }
    store<f32>(sums, v);
    largest = f32x4.max(largest, f32x4.splat(abs<f32>(v)));
  }
  return largest;
}

/** Values of one block from SUMS, 16 at a time. */
function quantiseBlock(values: usize, x: usize, scale: f32, residual: usize, keep: i32, count: i32): void {
  const inverse = f32x4.splat(scale == 0 ? 0 : 1 / scale);
  const scales = f32x4.splat(scale);
  let sums = SUMS;
  let i = count;
  for (; i >= 16; i -= 16, values += 16, sums += 64) {
    const a = v128.load(sums), b = v128.load(sums, 16), c = v128.load(sums, 32), d = v128.load(sums, 48);
    const qa = quantised(a, inverse), qb = quantised(b, inverse), qc = quantised(c, inverse), qd = quantised(d, inverse);
    v128.store(values, i8x16.narrow_i16x8_s(i16x8.narrow_i32x4_s(qa, qb), i16x8.narrow_i32x4_s(qc, qd)));
    if (!residual && !keep) continue;
    const da = f32x4.mul(f32x4.convert_i32x4_s(qa), scales), db = f32x4.mul(f32x4.convert_i32x4_s(qb), scales);
    const dc = f32x4.mul(f32x4.convert_i32x4_s(qc), scales), dd = f32x4.mul(f32x4.convert_i32x4_s(qd), scales);
    if (residual) {
      v128.store(residual, f32x4.sub(a, da));
      v128.store(residual, f32x4.sub(b, db), 16);
      v128.store(residual, f32x4.sub(c, dc), 32);
      v128.store(residual, f32x4.sub(d, dd), 48);
      residual += 64;
    }
    if (keep) {
      v128.store(x, da);
      v128.store(x, db, 16);
      v128.store(x, dc, 32);
      v128.store(x, dd, 48);
      x += 64;
    }
  }
  for (; i > 0; i--, values += 1, sums += 4) {
    const v = load<f32>(sums);
    const q = i32x4.extract_lane(quantised(f32x4.splat(v), inverse), 0);
    store<i8>(values, <i8>q);
    const decoded = <f32>q * scale;
    if (residual) {
      store<f32>(residual, v - decoded);
      residual += 4;
    }
    if (keep) {
      store<f32>(x, decoded);
      x += 4;
    }
  }
}

// @ts-ignore: decorator
@inline function scaleOf(largest: v128): f32 {
  const magnitude = max<f32>(
    max<f32>(f32x4.extract_lane(largest, 0), f32x4.extract_lane(largest, 1)),
    max<f32>(f32x4.extract_lane(largest, 2), f32x4.extract_lane(largest, 3)),
  );
  if (!(magnitude < Infinity)) return reinterpret<f32>(NOT_A_NUMBER);
  const scale = magnitude / 127;
  return scale < SMALLEST_NORMAL ? 0 : scale;
}

export function encodeInt8(out: usize, x: usize, addend: usize, residual: usize, keep: i32, count: i32): void {
  const blocks = (count + BLOCK - 1) / BLOCK;
  let values = out + (<usize>blocks << 2);
  let addendValues = addend ? addend + (<usize>blocks << 2) : 0;
  for (let i = count; i > 0; i -= BLOCK) {
    const n = min(i, BLOCK);
    const scale = scaleOf(sumBlock(x, addendValues, addend ? load<f32>(addend) : 0, residual, n));
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
  const blocks = (count + BLOCK - 1) / BLOCK;
  let values = payload + (<usize>blocks << 2);
  for (let i = count; i > 0; i -= BLOCK, payload += 4) {
    const scale = load<f32>(payload);
    const scales = f32x4.splat(scale);
    let n = min(i, BLOCK);
    for (; n >= 4; n -= 4, values += 4, x += 16) v128.store(x, dequantised(values, scales));
    for (; n > 0; n--, values += 1, x += 4) store<f32>(x, <f32>load<i8>(values) * scale);
  }
}
