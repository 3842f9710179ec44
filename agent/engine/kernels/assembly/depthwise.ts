// Gradients of the depthwise convolution: NHWC, filter [KH, KW, C, CM], output channel c * CM + m. Where each channel has one
// filter (CM = 1) the sums stay in registers, eight channels at a time; else the taps of a window are walked one after the other.

import { loadLanes, multiplyAdd, Pointer, storeLanes } from "./vector";

/** Any number of filters a channel. The geometry is walked the same way for both gradients; `toFilter` says which is wanted. */
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
        for (let c = 0; c < C; c++, pixel += 4) for (let m = 0; m < CM; m++, tap += 4, d += 4) {
          if (toFilter) store<f32>(tap, load<f32>(tap) + load<f32>(pixel) * load<f32>(d));
          else store<f32>(pixel, load<f32>(pixel) + load<f32>(tap) * load<f32>(d));
        }
      }
    }
  }
}

/** Of the line of outputs those whose tap j lies on the image: first, and one behind the last. */
// @ts-ignore: decorator
@inline function firstOutput(j: i32, SW: i32, PL: i32): i32 {
  return max(0, (PL - j + SW - 1) / SW);
}
// @ts-ignore: decorator
@inline function outputsEnd(j: i32, W: i32, OW: i32, SW: i32, PL: i32): i32 {
  const last = W - 1 + PL - j;
  return last < 0 ? 0 : min(OW, last / SW + 1);
}

export function depthwiseFilterGrad(
  x: Pointer, dy: Pointer,
  N: i32, H: i32, W: i32, C: i32, KH: i32, KW: i32, OH: i32, OW: i32, SH: i32, SW: i32, PT: i32, PL: i32,
  CM: i32, dfilter: Pointer,
): void {
  memory.fill(dfilter, 0, <usize>(KH * KW * C * CM) << 2);
  if (CM != 1) return walk(true, x, dfilter, dy, N, H, W, C, KH, KW, OH, OW, SH, SW, PT, PL, CM);
  const pixel = <usize>C << 2;
  for (let n = 0; n < N; n++) for (let oh = 0; oh < OH; oh++) for (let i = 0; i < KH; i++) {
    const h = oh * SH - PT + i;
    if (h < 0 || h >= H) continue;
    for (let j = 0; j < KW; j++) {
      const first = firstOutput(j, SW, PL), count = outputsEnd(j, W, OW, SW, PL) - first;
      const line = x + <usize>((n * H + h) * W + first * SW - PL + j) * pixel;
      const dline = dy + <usize>((n * OH + oh) * OW + first) * pixel;
      sumLine(line, <usize>SW * pixel, dline, count, C, dfilter + <usize>(i * KW + j) * pixel);
    }
  }
}

/** tap[c] += sum over `count` pixels of x[c] · d[c]. */
// @ts-ignore: decorator
@inline function sumLine(x: Pointer, step: usize, d: Pointer, count: i32, C: i32, tap: Pointer): void {
  const pixel = <usize>C << 2;
  let n = C;
  for (; n >= 8; n -= 8, x += 32, d += 32, tap += 32) {
    let s0 = v128.load(tap), s1 = v128.load(tap, 16);
    for (let k = count, p = x, q = d; k > 0; k--, p += step, q += pixel) {
      const x0 = v128.load(p), x1 = v128.load(p, 16), d0 = v128.load(q), d1 = v128.load(q, 16);
      s0 = multiplyAdd(x0, d0, s0);
      s1 = multiplyAdd(x1, d1, s1);
    }
    v128.store(tap, s0);
    v128.store(tap, s1, 16);
  }
  for (; n > 0; n -= 4, x += 16, d += 16, tap += 16) {
    let s = loadLanes(tap, n);
    for (let k = count, p = x, q = d; k > 0; k--, p += step, q += pixel) s = multiplyAdd(loadLanes(p, n), loadLanes(q, n), s);
    storeLanes(tap, s, n);
  }
}

export function depthwiseInputGrad(
  dy: Pointer, filter: Pointer,
  N: i32, H: i32, W: i32, C: i32, KH: i32, KW: i32, OH: i32, OW: i32, SH: i32, SW: i32, PT: i32, PL: i32,
  CM: i32, dx: Pointer,
): void {
  memory.fill(dx, 0, <usize>(N * H * W * C) << 2);
  if (CM != 1) return walk(false, dx, filter, dy, N, H, W, C, KH, KW, OH, OW, SH, SW, PT, PL, CM);
  const pixel = <usize>C << 2;
  for (let n = 0; n < N; n++) for (let oh = 0; oh < OH; oh++) for (let i = 0; i < KH; i++) {
    const h = oh * SH - PT + i;
    if (h < 0 || h >= H) continue;
    for (let j = 0; j < KW; j++) {
      const first = firstOutput(j, SW, PL), count = outputsEnd(j, W, OW, SW, PL) - first;
      const line = dx + <usize>((n * H + h) * W + first * SW - PL + j) * pixel;
      const dline = dy + <usize>((n * OH + oh) * OW + first) * pixel;
      spreadLine(filter + <usize>(i * KW + j) * pixel, dline, count, C, line, <usize>SW * pixel);
    }
  }
}

/** x[c] += tap[c] · d[c] of `count` pixels. */
// @ts-ignore: decorator
@inline function spreadLine(tap: Pointer, d: Pointer, count: i32, C: i32, x: Pointer, step: usize): void {
  const pixel = <usize>C << 2;
  let n = C;
  for (; n >= 8; n -= 8, x += 32, d += 32, tap += 32) {
    const f0 = v128.load(tap), f1 = v128.load(tap, 16);
    for (let k = count, p = x, q = d; k > 0; k--, p += step, q += pixel) {
      const d0 = v128.load(q), d1 = v128.load(q, 16), x0 = v128.load(p), x1 = v128.load(p, 16);
      v128.store(p, multiplyAdd(f0, d0, x0));
      v128.store(p, multiplyAdd(f1, d1, x1), 16);
    }
  }
  for (; n > 0; n -= 4, x += 16, d += 16, tap += 16) {
    const f = loadLanes(tap, n);
    for (let k = count, p = x, q = d; k > 0; k--, p += step, q += pixel)
      storeLanes(p, multiplyAdd(f, loadLanes(q, n), loadLanes(p, n)), n);
  }
}
