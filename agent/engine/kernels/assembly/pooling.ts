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
  memory.fill(dx, 0, <usize>(N * H * W * C) << 2);
  const pixel = <usize>C << 2, line = <usize>W * pixel;
  for (let n = 0; n < N; n++) for (let oh = 0; oh < OH; oh++) for (let ow = 0; ow < OW; ow++, dy += pixel) {
    const h0 = max(0, oh * SH - PT), h1 = min(H, oh * SH - PT + KH);
    const w0 = max(0, ow * SW - PL), w1 = min(W, ow * SW - PL + KW);
    if (h0 >= h1 || w0 >= w1) continue; // a window wholly in the padding has no maximum
    const base = <usize>n * <usize>H * line;
    let c = 0, o: usize = 0;
    for (; c + 4 <= C; c += 4, o += 16) {
      let top = splat(-Infinity), left = v128.load(dy + o);
      for (let h = h0; h < h1; h++) for (let w = w0; w < w1; w++) {
        top = f32x4.pmax(top, v128.load(x + base + <usize>h * line + <usize>w * pixel + o));
      }
      for (let h = h0; h < h1; h++) for (let w = w0; w < w1; w++) {
        const at = base + <usize>h * line + <usize>w * pixel + o, hit = f32x4.eq(v128.load(x + at), top);
        v128.store(dx + at, f32x4.add(v128.load(dx + at), v128.and(left, hit)));
        left = v128.andnot(left, hit); // what was given away cannot be given twice
      }
    }
    for (; c < C; c++, o += 4) {
      let top: f32 = -Infinity, best = base + <usize>h0 * line + <usize>w0 * pixel + o;
      for (let h = h0; h < h1; h++) for (let w = w0; w < w1; w++) {
        const at = base + <usize>h * line + <usize>w * pixel + o, v = load<f32>(x + at);
        if (v > top) {
          top = v;
          best = at;
        }
      }
      store<f32>(dx + best, load<f32>(dx + best) + load<f32>(dy + o));
    }
  }
}
