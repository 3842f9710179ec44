// NHWC, filter [KH, KW, C, CO], its taps DH and DW apart: im2col of PIXELS output pixels at a time, so that the columns stay in
// cache, then GEMM. The gradients take `y`, what the convolution put out where a ReLU ended it, and let through what it let
// through, block by block: the gradient before the ReLU never goes to memory.

import { gemm, gemmScratch } from "./gemm";
import { patches, planes } from "./patches";
import { addColumns, reluGrad } from "./reductions";
import { ACCUMULATE, Pointer } from "./vector";

const PIXELS: i32 = 192;
/** From so many channels on a pixel's channels are copied as they lie; fewer are cheaper as a plane each. */
const CHANNELS_TOGETHER: i32 = 4;

/** Floats of scratch for the convolutions: the columns, a block of the gradient, and gemm's own. */
export function convScratch(KH: i32, KW: i32, C: i32, CO: i32): i32 {
  return PIXELS * (KH * KW * C + CO) + gemmScratch();
}

/** As `patches` and `planes`, whichever suits the channels. */
// @ts-ignore: decorator
@inline function move(
  add: bool, image: Pointer, columns: Pointer, first: i32, count: i32,
  H: i32, W: i32, C: i32, KH: i32, KW: i32, OH: i32, OW: i32, SH: i32, SW: i32, PT: i32, PL: i32,
  DH: i32, DW: i32,
): void {
  if (C < CHANNELS_TOGETHER) planes(add, image, columns, PIXELS, first, count, H, W, C, KH, KW, OH, OW, SH, SW, PT, PL, DH, DW);
  else patches(add, image, columns, first, count, H, W, C, KH, KW, OH, OW, SH, SW, PT, PL, DH, DW);
}

/** y = conv2d(x, filter), then what `flags` says (BIAS, RELU). */
export function conv2d(
  x: Pointer, filter: Pointer,
  N: i32, H: i32, W: i32, C: i32, KH: i32, KW: i32, OH: i32, OW: i32, SH: i32, SW: i32, PT: i32, PL: i32,
  DH: i32, DW: i32,
  CO: i32, flags: i32, bias: Pointer, y: Pointer, scratch: Pointer,
): void {
  const K = KH * KW * C, total = N * OH * OW, own = scratch + (<usize>(PIXELS * K) << 2);
  const pixelStep: usize = C < CHANNELS_TOGETHER ? 1 : K, tapStep: usize = C < CHANNELS_TOGETHER ? PIXELS : 1;
  for (let r = 0; r < total; r += PIXELS) {
    const n = min(PIXELS, total - r);
    move(false, x, scratch, r, n, H, W, C, KH, KW, OH, OW, SH, SW, PT, PL, DH, DW);
    gemm(n, CO, K, scratch, pixelStep, tapStep, filter, CO, 1, y + (<usize>(r * CO) << 2), CO, flags, bias, own);
  }
}

/** dfilter, and in `dbias` the sums of the gradient over all pixels, where that is a pointer. `y` may be none. */
export function conv2dFilterGrad(
  x: Pointer, dy: Pointer, y: Pointer,
  N: i32, H: i32, W: i32, C: i32, KH: i32, KW: i32, OH: i32, OW: i32, SH: i32, SW: i32, PT: i32, PL: i32,
  DH: i32, DW: i32,
  CO: i32, dfilter: Pointer, dbias: Pointer, scratch: Pointer,
): void {
  const K = KH * KW * C, total = N * OH * OW;
  const passed = scratch + (<usize>(PIXELS * K) << 2), own = passed + (<usize>(PIXELS * CO) << 2);
  const pixelStep: usize = C < CHANNELS_TOGETHER ? 1 : K, tapStep: usize = C < CHANNELS_TOGETHER ? PIXELS : 1;
  if (dbias) memory.fill(dbias, 0, <usize>CO << 2);
  for (let r = 0; r < total; r += PIXELS) {
    const n = min(PIXELS, total - r), at = <usize>(r * CO) << 2;
    let d = dy + at;
    if (y) {
      reluGrad(y + at, d, passed, n * CO);
      d = passed;
    }
    if (dbias) addColumns(d, n, CO, dbias);
    move(false, x, scratch, r, n, H, W, C, KH, KW, OH, OW, SH, SW, PT, PL, DH, DW);
    gemm(K, CO, n, scratch, tapStep, pixelStep, d, CO, 1, dfilter, CO, r ? ACCUMULATE : 0, 0, own);
  }
}

/** `y` may be none. */
export function conv2dInputGrad(
  dy: Pointer, y: Pointer, filter: Pointer,
  N: i32, H: i32, W: i32, C: i32, KH: i32, KW: i32, OH: i32, OW: i32, SH: i32, SW: i32, PT: i32, PL: i32,
  DH: i32, DW: i32,
  CO: i32, dx: Pointer, scratch: Pointer,
): void {
  const K = KH * KW * C, total = N * OH * OW;
  const passed = scratch + (<usize>(PIXELS * K) << 2), own = passed + (<usize>(PIXELS * CO) << 2);
  memory.fill(dx, 0, <usize>(N * H * W * C) << 2);
  for (let r = 0; r < total; r += PIXELS) {
    const n = min(PIXELS, total - r), at = <usize>(r * CO) << 2;
    let d = dy + at;
    if (y) {
      reluGrad(y + at, d, passed, n * CO);
      d = passed;
    }
    // gemm writes rows: pixels, or planes of taps where the columns lie so.
    if (C < CHANNELS_TOGETHER) gemm(K, n, CO, filter, CO, 1, d, 1, CO, scratch, PIXELS, 0, 0, own);
    else gemm(n, K, CO, d, CO, 1, filter, 1, CO, scratch, K, 0, 0, own);
    move(true, dx, scratch, r, n, H, W, C, KH, KW, OH, OW, SH, SW, PT, PL, DH, DW);
  }
}
