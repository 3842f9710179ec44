import { Pointer, splat } from "./vector";

/**
 * The gradient goes to the first largest element of each window, as in the cpu backend of TF.js. Windows may overlap.
 * The kernel that TF.js ships starts from 0 and so loses windows whose maximum is negative; this one starts from -inf.
 */
export function maxPoolGrad(
  x: Pointer, dy: Pointer,
  N: i32, H: i32, W: i32, C: i32, KH: i32, KW: i32, OH: i32, OW: i32, SH: i32, SW: i32, PT: i32, PL: i32,
  dx: Pointer,
): void {
  const pixel = <usize>C << 2, line = <usize>W * pixel, image = <usize>H * line;
  for (let n = 0; n < N; n++, x += image, dx += image) {
    let cleared = 0; // lines of dx: as they are needed, so that they are in cache when they are
    for (let oh = 0; oh < OH; oh++) {
      const h0 = max(0, oh * SH - PT), h1 = min(H, oh * SH - PT + KH);
      if (h1 > cleared) {
        memory.fill(dx + <usize>cleared * line, 0, <usize>(h1 - cleared) * line);
        cleared = h1;
      }
      for (let ow = 0; ow < OW; ow++, dy += pixel) {
        const w0 = max(0, ow * SW - PL), w1 = min(W, ow * SW - PL + KW);
        // A window wholly in the padding has no maximum.
        if (h0 < h1 && w0 < w1) giveToLargest(x, dy, dx, h0, h1, w0, w1, C, line);
      }
    }
    memory.fill(dx + <usize>cleared * line, 0, <usize>(H - cleared) * line);
  }
}

/** One window: adds dy [C] to dx where x is largest. */
// @ts-ignore: decorator
@inline function giveToLargest(
  x: Pointer, dy: Pointer, dx: Pointer, h0: i32, h1: i32, w0: i32, w1: i32, C: i32, line: usize,
): void {
  const pixel = <usize>C << 2, corner = <usize>h0 * line + <usize>w0 * pixel;
  let c = 0, o: usize = 0;
  // Eight channels in two registers of a kind side by side, which V8 may take for one of 256 bits.
  for (; c + 8 <= C; c += 8, o += 32) {
    let top0 = splat(-Infinity), top1 = top0;
    for (let h = h0, row = corner + o; h < h1; h++, row += line) for (let w = w0, at = row; w < w1; w++, at += pixel) {
      top0 = f32x4.pmax(top0, v128.load(x + at));
      top1 = f32x4.pmax(top1, v128.load(x + at, 16));
    }
    let left0 = v128.load(dy + o), left1 = v128.load(dy + o, 16);
    for (let h = h0, row = corner + o; h < h1; h++, row += line) for (let w = w0, at = row; w < w1; w++, at += pixel) {
      const hit0 = f32x4.eq(v128.load(x + at), top0), hit1 = f32x4.eq(v128.load(x + at, 16), top1);
      const d0 = f32x4.add(v128.load(dx + at), v128.and(left0, hit0));
      const d1 = f32x4.add(v128.load(dx + at, 16), v128.and(left1, hit1));
      v128.store(dx + at, d0);
      v128.store(dx + at, d1, 16);
      left0 = v128.andnot(left0, hit0); // what was given away cannot be given twice
      left1 = v128.andnot(left1, hit1);
    }
  }
  for (; c < C; c++, o += 4) {
    let top: f32 = -Infinity, best = corner + o;
    for (let h = h0, row = corner + o; h < h1; h++, row += line) for (let w = w0, at = row; w < w1; w++, at += pixel) {
      const v = load<f32>(x + at);
      if (v > top) {
        top = v;
        best = at;
      }
    }
    store<f32>(dx + best, load<f32>(dx + best) + load<f32>(dy + o));
  }
}
