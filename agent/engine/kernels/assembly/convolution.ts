// NHWC, filter [KH, KW, C, CO], its taps DH and DW apart: im2col of PIXELS output pixels at a time, so that the columns stay in
// cache, then GEMM.

import { gemm, gemmScratch } from "./gemm";
import { ACCUMULATE, addRun, copyRun, Pointer } from "./vector";

const PIXELS: i32 = 192;

/** Floats of scratch for the convolutions: the columns and gemm's own. */
export function convScratch(KH: i32, KW: i32, C: i32): i32 {
  return PIXELS * KH * KW * C + gemmScratch();
}

/**
 * Between an image and the columns of `count` output pixels from `first` on.
 * add = false: columns <- image patches. add = true: image <- image + columns (col2im).
 */
function patches(
  add: bool, image: Pointer, column: Pointer, first: i32, count: i32,
  H: i32, W: i32, C: i32, KH: i32, KW: i32, OH: i32, OW: i32, SH: i32, SW: i32, PT: i32, PL: i32,
  DH: i32, DW: i32,
): void {
  const run = KW * C; // contiguous in the image where the window is inside it
  let ow = first % OW, oh = (first / OW) % OH, n = first / (OW * OH);
  for (; count > 0; count--) {
    const w0 = ow * SW - PL, h0 = oh * SH - PT, inside = DW == 1 && w0 >= 0 && w0 + KW <= W;
    for (let i = 0; i < KH; i++) {
      const h = h0 + i * DH, row = image + (<usize>(((n * H + h) * W + w0) * C) << 2), hasRow = h >= 0 && h < H;
      if (hasRow && inside) {
        if (add) addRun(row, column, run);
        else copyRun(column, row, run);
      } else {
        for (let j = 0; j < KW; j++) {
          const w = w0 + j * DW, at = <usize>(j * C) << 2, valid = hasRow && w >= 0 && w < W;
          const pixel = row + (<usize>(j * DW * C) << 2);
          if (add) {
            if (valid) addRun(pixel, column + at, C);
          } else if (valid) {
            copyRun(column + at, pixel, C);
          } else {
            memory.fill(column + at, 0, <usize>C << 2);
          }
        }
      }
      column += <usize>run << 2;
    }
    if (++ow == OW) {
      ow = 0;
      if (++oh == OH) {
        oh = 0;
        n++;
      }
    }
  }
}

/** y = conv2d(x, filter), then what `flags` says (BIAS, RELU). */
export function conv2d(
  x: Pointer, filter: Pointer,
  N: i32, H: i32, W: i32, C: i32, KH: i32, KW: i32, OH: i32, OW: i32, SH: i32, SW: i32, PT: i32, PL: i32,
  DH: i32, DW: i32,
  CO: i32, flags: i32, bias: Pointer, y: Pointer, scratch: Pointer,
): void {
  const K = KH * KW * C, total = N * OH * OW, own = scratch + (<usize>(PIXELS * K) << 2);
  for (let r = 0; r < total; r += PIXELS) {
    const n = min(PIXELS, total - r);
    patches(false, x, scratch, r, n, H, W, C, KH, KW, OH, OW, SH, SW, PT, PL, DH, DW);
    gemm(n, CO, K, scratch, K, 1, filter, CO, 1, y + (<usize>(r * CO) << 2), CO, flags, bias, own);
  }
}

export function conv2dFilterGrad(
  x: Pointer, dy: Pointer,
  N: i32, H: i32, W: i32, C: i32, KH: i32, KW: i32, OH: i32, OW: i32, SH: i32, SW: i32, PT: i32, PL: i32,
  DH: i32, DW: i32,
  CO: i32, dfilter: Pointer, scratch: Pointer,
): void {
  const K = KH * KW * C, total = N * OH * OW, own = scratch + (<usize>(PIXELS * K) << 2);
  for (let r = 0; r < total; r += PIXELS) {
    const n = min(PIXELS, total - r);
    patches(false, x, scratch, r, n, H, W, C, KH, KW, OH, OW, SH, SW, PT, PL, DH, DW);
    gemm(K, CO, n, scratch, 1, K, dy + (<usize>(r * CO) << 2), CO, 1, dfilter, CO, r ? ACCUMULATE : 0, 0, own);
  }
}

export function conv2dInputGrad(
  dy: Pointer, filter: Pointer,
  N: i32, H: i32, W: i32, C: i32, KH: i32, KW: i32, OH: i32, OW: i32, SH: i32, SW: i32, PT: i32, PL: i32,
  DH: i32, DW: i32,
  CO: i32, dx: Pointer, scratch: Pointer,
): void {
  const K = KH * KW * C, total = N * OH * OW, own = scratch + (<usize>(PIXELS * K) << 2);
  memory.fill(dx, 0, <usize>(N * H * W * C) << 2);
  for (let r = 0; r < total; r += PIXELS) {
    const n = min(PIXELS, total - r);
    gemm(n, K, CO, dy + (<usize>(r * CO) << 2), CO, 1, filter, 1, CO, scratch, K, 0, 0, own);
    patches(true, dx, scratch, r, n, H, W, C, KH, KW, OH, OW, SH, SW, PT, PL, DH, DW);
  }
}
