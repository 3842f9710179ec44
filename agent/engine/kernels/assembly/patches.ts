// Between an image and the columns of `count` output pixels from `first` on, in two orders.
// add = false: columns <- image patches. add = true: image <- image + columns (col2im).

import { addRun, copyRun, Pointer } from "./vector";

/** Columns [pixel, tap, channel]: a pixel's channels, and the taps of a line where the window is inside, are one run. */
export function patches(
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

/**
 * Columns [tap, channel, pixel], `pitch` floats from one to the next: for images of few channels, whose lines are copied in runs
 * of pixels instead of runs of channels.
 */
export function planes(
  add: bool, image: Pointer, columns: Pointer, pitch: i32, first: i32, count: i32,
  H: i32, W: i32, C: i32, KH: i32, KW: i32, OH: i32, OW: i32, SH: i32, SW: i32, PT: i32, PL: i32,
  DH: i32, DW: i32,
): void {
  while (count > 0) {
    // One line of output pixels, or what is asked of it.
    const ow = first % OW, oh = (first / OW) % OH, n = first / (OW * OH), length = min(count, OW - ow);
    let plane = columns;
    for (let i = 0; i < KH; i++) {
      const h = oh * SH - PT + i * DH, hasLine = h >= 0 && h < H, line = image + (<usize>((n * H + h) * W * C) << 2);
      for (let j = 0; j < KW; j++) {
        const w = ow * SW - PL + j * DW;
        // Pixels of the run that lie in the image: from `lead` on, `inside` of them.
        const lead = w < 0 ? min(length, (SW - 1 - w) / SW) : 0;
        const inside = hasLine && w < W ? max(0, min(length, (W - 1 - w) / SW + 1) - lead) : 0;
        for (let c = 0; c < C; c++, plane += <usize>pitch << 2) {
          const from = line + (<usize>((w + lead * SW) * C + c) << 2), to = plane + (<usize>lead << 2);
          if (add) addLine(from, SW * C, to, inside);
          else {
            if (inside < length) memory.fill(plane, 0, <usize>length << 2);
            copyLine(to, from, SW * C, inside);
          }
        }
      }
    }
    first += length;
    count -= length;
    columns += <usize>length << 2;
  }
}

/** to[i] = from[i · step] */
// @ts-ignore: decorator
@inline function copyLine(to: Pointer, from: Pointer, step: i32, n: i32): void {
  if (step == 1) copyRun(to, from, n);
  else for (; n > 0; n--, to += 4, from += <usize>step << 2) store<f32>(to, load<f32>(from));
}

/** to[i · step] += from[i] */
// @ts-ignore: decorator
@inline function addLine(to: Pointer, step: i32, from: Pointer, n: i32): void {
  if (step == 1) addRun(to, from, n);
  else for (; n > 0; n--, from += 4, to += <usize>step << 2) store<f32>(to, load<f32>(to) + load<f32>(from));
}
