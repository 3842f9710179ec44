// Gradients of the depthwise convolution: NHWC, filter [KH, KW, C, CM], output channel c * CM + m. The taps of a window are
// walked one after the other; the innermost loop runs along the channels, in lanes where each has one filter (CM = 1).

import { addProduct, Pointer } from "./vector";

/** The geometry is walked the same way for both gradients; `toFilter` says which one is wanted. */
// @ts-ignore: decorator
@inline function walk(
  toFilter: bool, image: Pointer, filter: Pointer, dy: Pointer,
  N: i32, H: i32, W: i32, C: i32, KH: i32, KW: i32, OH: i32, OW: i32, SH: i32, SW: i32, PT: i32, PL: i32,
  CM: i32,
): void {
  const outChannels = <usize>(C * CM) << 2;
  for (let n = 0; n < N; n++) for (let oh = 0; oh < OH; oh++) for (let ow = 0; ow < OW; ow++, dy += outChannels) {
    for (let i = 0; i < KH; i++) {
      const h = oh * SH - PT + i;
      if (h < 0 || h >= H) continue;
      for (let j = 0; j < KW; j++) {
        const w = ow * SW - PL + j;
        if (w < 0 || w >= W) continue;
        let pixel = image + (<usize>(((n * H + h) * W + w) * C) << 2);
        let tap = filter + <usize>(i * KW + j) * outChannels, d = dy;
        if (CM == 1) {
          if (toFilter) addProduct(tap, pixel, d, C);
          else addProduct(pixel, tap, d, C);
          continue;
        }
        for (let c = 0; c < C; c++, pixel += 4) for (let m = 0; m < CM; m++, tap += 4, d += 4) {
          if (toFilter) store<f32>(tap, load<f32>(tap) + load<f32>(pixel) * load<f32>(d));
          else store<f32>(pixel, load<f32>(pixel) + load<f32>(tap) * load<f32>(d));
        }
      }
    }
  }
}

export function depthwiseFilterGrad(
  x: Pointer, dy: Pointer,
  N: i32, H: i32, W: i32, C: i32, KH: i32, KW: i32, OH: i32, OW: i32, SH: i32, SW: i32, PT: i32, PL: i32,
  CM: i32, dfilter: Pointer,
): void {
  memory.fill(dfilter, 0, <usize>(KH * KW * C * CM) << 2);
  walk(true, x, dfilter, dy, N, H, W, C, KH, KW, OH, OW, SH, SW, PT, PL, CM);
}

export function depthwiseInputGrad(
  dy: Pointer, filter: Pointer,
  N: i32, H: i32, W: i32, C: i32, KH: i32, KW: i32, OH: i32, OW: i32, SH: i32, SW: i32, PT: i32, PL: i32,
  CM: i32, dx: Pointer,
): void {
  memory.fill(dx, 0, <usize>(N * H * W * C) << 2);
  walk(false, dx, filter, dy, N, H, W, C, KH, KW, OH, OW, SH, SW, PT, PL, CM);
}
