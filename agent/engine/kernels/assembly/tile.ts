// The register tile of gemm, in two widths. V8 compiles the pairs of 128-bit lanes of the wide one to 256-bit registers, where
// it is asked to and can (module.ts): the accumulators then halve in number. Elsewhere the wide one would spill.

import { ACCUMULATE, BIAS, multiplyAdd, Pointer, RELU, splat } from "./vector";

export const TILE_ROWS: i32 = 4;
/** WIDE, 0 or 1, is a constant of the build. */
export const TILE_COLUMNS: i32 = WIDE ? 16 : 8;
/** Bytes of a row of a tile, and of a row of a packed panel of B. */
export const TILE_PITCH: usize = TILE_COLUMNS << 2;

// @ts-ignore: decorator
@inline function finishPair(c: Pointer, x0: v128, x1: v128, flags: i32, bias: Pointer): void {
  if (flags & ACCUMULATE) {
    x0 = f32x4.add(x0, v128.load(c));
    x1 = f32x4.add(x1, v128.load(c, 16));
  }
  if (flags & BIAS) {
    x0 = f32x4.add(x0, v128.load(bias));
    x1 = f32x4.add(x1, v128.load(bias, 16));
  }
  if (flags & RELU) {
    x0 = f32x4.pmax(x0, splat(0));
    x1 = f32x4.pmax(x1, splat(0));
  }
  v128.store(c, x0);
  v128.store(c, x1, 16);
}

/**
 * C[4, TILE_COLUMNS] (+)= A's panel · rows of B, `stepB` bytes apart. Exported only so that the optimizer leaves it a function of its own: V8 keeps
 * the accumulators in registers only in a small function. The rows run backwards because V8 12 schedules the multiply-adds in
 * the reverse of the order in which their results are used after the loop, and the loads in program order. do-while, as V8 12
 * loses a tenth on a loop tested at the top; so `depth` must be at least 1.
 */
export function tile(depth: i32, a: Pointer, b: Pointer, stepB: usize, c: Pointer, ldc: usize, flags: i32, bias: Pointer): void {
  if (WIDE) wide(depth, a, b, stepB, c, ldc, flags, bias);
  else narrow(depth, a, b, stepB, c, ldc, flags, bias);
}

/** 4x8: 8 accumulators + 2 + 4 registers = 14 of the 15 that V8 has on x64; 6x8 is 2-3 % faster with relaxed SIMD but spills without it. */
// @ts-ignore: decorator
@inline function narrow(depth: i32, a: Pointer, b: Pointer, stepB: usize, c: Pointer, ldc: usize, flags: i32, bias: Pointer): void {
  let c00 = splat(0), c01 = c00, c10 = c00, c11 = c00, c20 = c00, c21 = c00, c30 = c00, c31 = c00;
  do {
    const b0 = v128.load(b), b1 = v128.load(b, 16);
    let x = v128.load_splat<f32>(a, 12);
    c31 = multiplyAdd(x, b1, c31);
    c30 = multiplyAdd(x, b0, c30);
    x = v128.load_splat<f32>(a, 8);
    c21 = multiplyAdd(x, b1, c21);
    c20 = multiplyAdd(x, b0, c20);
    x = v128.load_splat<f32>(a, 4);
    c11 = multiplyAdd(x, b1, c11);
    c10 = multiplyAdd(x, b0, c10);
    x = v128.load_splat<f32>(a);
    c01 = multiplyAdd(x, b1, c01);
    c00 = multiplyAdd(x, b0, c00);
    a += 16;
    b += stepB;
  } while (--depth);
  finishPair(c, c00, c01, flags, bias);
  finishPair(c + ldc, c10, c11, flags, bias);
  finishPair(c + 2 * ldc, c20, c21, flags, bias);
  finishPair(c + 3 * ldc, c30, c31, flags, bias);
}

/** 4x16: 8 accumulators of 256 bits, as many as two multiply-adds a cycle of four cycles each keep busy. */
// @ts-ignore: decorator
@inline function wide(depth: i32, a: Pointer, b: Pointer, stepB: usize, c: Pointer, ldc: usize, flags: i32, bias: Pointer): void {
  let c00 = splat(0), c01 = c00, c02 = c00, c03 = c00, c10 = c00, c11 = c00, c12 = c00, c13 = c00;
  let c20 = c00, c21 = c00, c22 = c00, c23 = c00, c30 = c00, c31 = c00, c32 = c00, c33 = c00;
  do {
    const b0 = v128.load(b), b1 = v128.load(b, 16), b2 = v128.load(b, 32), b3 = v128.load(b, 48);
    let x = v128.load_splat<f32>(a, 12);
    c30 = multiplyAdd(x, b0, c30);
    c31 = multiplyAdd(x, b1, c31);
    c32 = multiplyAdd(x, b2, c32);
    c33 = multiplyAdd(x, b3, c33);
    x = v128.load_splat<f32>(a, 8);
    c20 = multiplyAdd(x, b0, c20);
    c21 = multiplyAdd(x, b1, c21);
    c22 = multiplyAdd(x, b2, c22);
    c23 = multiplyAdd(x, b3, c23);
    x = v128.load_splat<f32>(a, 4);
    c10 = multiplyAdd(x, b0, c10);
    c11 = multiplyAdd(x, b1, c11);
    c12 = multiplyAdd(x, b2, c12);
    c13 = multiplyAdd(x, b3, c13);
    x = v128.load_splat<f32>(a);
    c00 = multiplyAdd(x, b0, c00);
    c01 = multiplyAdd(x, b1, c01);
    c02 = multiplyAdd(x, b2, c02);
    c03 = multiplyAdd(x, b3, c03);
    a += 16;
    b += stepB;
  } while (--depth);
  finishPair(c, c00, c01, flags, bias);
  finishPair(c + 32, c02, c03, flags, bias + 32);
  c += ldc;
  finishPair(c, c10, c11, flags, bias);
  finishPair(c + 32, c12, c13, flags, bias + 32);
  c += ldc;
  finishPair(c, c20, c21, flags, bias);
  finishPair(c + 32, c22, c23, flags, bias + 32);
  c += ldc;
  finishPair(c, c30, c31, flags, bias);
  finishPair(c + 32, c32, c33, flags, bias + 32);
}
