// Whole sequences: x [batch, places, gates · units] is the input's part of the gates, out [batch, places, units] the states in
// the order in which the places are come to. `mask` is [batch, places], 0 where the state stays as it is. What
// the gradient needs is kept: [batch, places, KEPT · units].

import { sigmoidLanes, tanhLanes } from "./activation";
import { gemm, gemmScratch } from "./gemm";
import { addColumns } from "./reductions";
import { ACCUMULATE, addRun, copyRun, loadLanes, multiplyAdd, Pointer, splat, storeLanes } from "./vector";

/** Floats of scratch for the sequences: gates before their activations, the gradients of h and c, and gemm's own. */
export function recurrentScratch(batch: i32, units: i32): i32 {
  return batch * 6 * units + gemmScratch();
}

/** s · (1 - s), the slope of a sigmoid whose value is s. */
// @ts-ignore: decorator
@inline function sigmoidSlope(s: v128): v128 {
  return f32x4.mul(s, f32x4.sub(splat(1), s));
}

/** 1 - t², the slope of a tanh whose value is t. */
// @ts-ignore: decorator
@inline function tanhSlope(t: v128): v128 {
  return f32x4.sub(splat(1), f32x4.mul(t, t));
}

/** The place that is come to after i others. */
// @ts-ignore: decorator
@inline function placeOf(i: i32, places: i32, backwards: bool): i32 {
  return backwards ? places - 1 - i : i;
}

// @ts-ignore: decorator
@inline function isHidden(mask: Pointer, row: i32): bool {
  return load<f32>(mask + (<usize>row << 2)) == 0;
}

/**
 * With the activations sigmoid and tanh; gates in Keras' order: input, forget, candidate, output. kept: the four gates, and the
 * cell's state. Source: Hochreiter & Schmidhuber, 1997; forget gate of Gers et al., 2000.
 */
export function lstm(
  x: Pointer, kernel: Pointer, mask: Pointer, batch: i32, places: i32, units: i32, backwards: bool,
  kept: Pointer, out: Pointer, scratch: Pointer,
): void {
  const width = <usize>units << 2, own = scratch + <usize>batch * 4 * width;
  for (let i = 0; i < places; i++) {
    if (i > 0) gemm(batch, 4 * units, units, out + <usize>(i - 1) * width, places * units, 1, kernel, 4 * units, 1, scratch, 4 * units, 0, 0, own);
    else memory.fill(scratch, 0, <usize>batch * 4 * width);
    for (let b = 0; b < batch; b++) {
      const place = b * places + placeOf(i, places, backwards), at = <usize>(b * places + i);
      const h = out + at * width, k = kept + at * 5 * width, zx = x + <usize>place * 4 * width, zh = scratch + <usize>b * 4 * width;
      if (isHidden(mask, place)) {
        if (i > 0) {
          copyRun(h, h - width, units);
          copyRun(k + 4 * width, k - width, units);
        } else {
          memory.fill(h, 0, width);
          memory.fill(k + 4 * width, 0, width);
        }
        continue;
      }
      for (let n = units, o: usize = 0; n > 0; n -= 4, o += 16) {
        const input = sigmoidLanes(f32x4.add(loadLanes(zx + o, n), loadLanes(zh + o, n)));
        const forget = sigmoidLanes(f32x4.add(loadLanes(zx + width + o, n), loadLanes(zh + width + o, n)));
        const candidate = tanhLanes(f32x4.add(loadLanes(zx + 2 * width + o, n), loadLanes(zh + 2 * width + o, n)));
        const output = sigmoidLanes(f32x4.add(loadLanes(zx + 3 * width + o, n), loadLanes(zh + 3 * width + o, n)));
        const before = i > 0 ? loadLanes(k - width + o, n) : splat(0);
        const cell = multiplyAdd(forget, before, f32x4.mul(input, candidate));
        storeLanes(k + o, input, n);
        storeLanes(k + width + o, forget, n);
        storeLanes(k + 2 * width + o, candidate, n);
        storeLanes(k + 3 * width + o, output, n);
        storeLanes(k + 4 * width + o, cell, n);
        storeLanes(h + o, f32x4.mul(output, tanhLanes(cell)), n);
      }
    }
  }
}

export function lstmGrad(
  kernel: Pointer, mask: Pointer, kept: Pointer, out: Pointer, dy: Pointer,
  batch: i32, places: i32, units: i32, backwards: bool, dx: Pointer, dkernel: Pointer, scratch: Pointer,
): void {
  const width = <usize>units << 2;
  const dhAll = scratch, dcAll = dhAll + <usize>batch * width, dzAll = dcAll + <usize>batch * width;
  const own = dzAll + <usize>batch * 4 * width;
  memory.fill(scratch, 0, <usize>batch * 2 * width);
  memory.fill(dkernel, 0, <usize>units * 4 * width);
  for (let i = places - 1; i >= 0; i--) {
    for (let b = 0; b < batch; b++) {
      const place = b * places + placeOf(i, places, backwards), at = <usize>(b * places + i);
      const k = kept + at * 5 * width, d = dx + <usize>place * 4 * width, dz = dzAll + <usize>b * 4 * width;
      const dh = dhAll + <usize>b * width, dc = dcAll + <usize>b * width;
      addRun(dh, dy + at * width, units);
      if (isHidden(mask, place)) {
        memory.fill(d, 0, 4 * width);
        memory.fill(dz, 0, 4 * width);
        continue;
      }
      for (let n = units, o: usize = 0; n > 0; n -= 4, o += 16) {
        const input = loadLanes(k + o, n), forget = loadLanes(k + width + o, n);
        const candidate = loadLanes(k + 2 * width + o, n), output = loadLanes(k + 3 * width + o, n);
        const t = tanhLanes(loadLanes(k + 4 * width + o, n)), g = loadLanes(dh + o, n);
        const before = i > 0 ? loadLanes(k - width + o, n) : splat(0);
        const cell = multiplyAdd(f32x4.mul(g, output), tanhSlope(t), loadLanes(dc + o, n));
        storeLanes(dz + o, f32x4.mul(f32x4.mul(cell, candidate), sigmoidSlope(input)), n);
        storeLanes(dz + width + o, f32x4.mul(f32x4.mul(cell, before), sigmoidSlope(forget)), n);
        storeLanes(dz + 2 * width + o, f32x4.mul(f32x4.mul(cell, input), tanhSlope(candidate)), n);
        storeLanes(dz + 3 * width + o, f32x4.mul(f32x4.mul(g, t), sigmoidSlope(output)), n);
        storeLanes(dc + o, f32x4.mul(cell, forget), n);
        storeLanes(dh + o, splat(0), n);
      }
      copyRun(d, dz, 4 * units);
    }
    if (i == 0) break;
    gemm(units, 4 * units, batch, out + <usize>(i - 1) * width, 1, places * units, dzAll, 4 * units, 1, dkernel, 4 * units, ACCUMULATE, 0, own);
    gemm(batch, units, 4 * units, dzAll, 4 * units, 1, kernel, 1, 4 * units, dhAll, units, ACCUMULATE, 0, own);
  }
}

/**
 * With the activations sigmoid and tanh; gates: update, reset, candidate. `after`: the reset lies behind the product with the state,
 * and that may have a bias [3 · units] ("reset_after", as cuDNN has it); else it lies before it, and `bias` is no pointer.
 * kept: the three gates, and the state's part of the candidate.
 * Source: Cho et al., "Learning phrase representations using RNN encoder-decoder", 2014.
 */
export function gru(
  x: Pointer, kernel: Pointer, bias: Pointer, mask: Pointer, batch: i32, places: i32, units: i32, backwards: bool, after: bool,
  kept: Pointer, out: Pointer, scratch: Pointer,
): void {
  const width = <usize>units << 2, gates = 3 * units, hs = scratch, reset = hs + <usize>batch * 3 * width, own = reset + <usize>batch * width;
  for (let i = 0; i < places; i++) {
    const h = out + <usize>(i - 1) * width;
    if (i > 0) gemm(batch, after ? gates : 2 * units, units, h, places * units, 1, kernel, gates, 1, hs, gates, 0, 0, own);
    else memory.fill(hs, 0, <usize>batch * 3 * width);
    for (let b = 0; b < batch; b++) {
      const place = b * places + placeOf(i, places, backwards), at = <usize>(b * places + i);
      if (isHidden(mask, place)) {
        memory.fill(reset + <usize>b * width, 0, width);
        continue;
      }
      const row = hs + <usize>b * 3 * width;
      if (bias) addRun(row, bias, gates);
      openGates(x + <usize>place * 3 * width, row, i > 0 ? out + (at - 1) * width : 0, units, kept + at * 4 * width, reset + <usize>b * width);
    }
    if (!after && i > 0) gemm(batch, units, units, reset, units, 1, kernel + 2 * width, gates, 1, hs + 2 * width, gates, 0, 0, own);
    for (let b = 0; b < batch; b++) {
      const place = b * places + placeOf(i, places, backwards), at = <usize>(b * places + i), next = out + at * width;
      if (!isHidden(mask, place)) {
        const candidate = x + <usize>place * 3 * width + 2 * width, row = hs + <usize>b * 3 * width + 2 * width;
        goOn(candidate, row, i > 0 ? next - width : 0, units, after, kept + at * 4 * width, next);
      } else if (i > 0) {
        copyRun(next, next - width, units);
      } else {
        memory.fill(next, 0, width);
      }
    }
  }
}

/** Update and reset of one row into `kept`, and reset · h; `before` is h, or no pointer for zeros. */
// @ts-ignore: decorator
@inline function openGates(x: Pointer, hs: Pointer, before: Pointer, units: i32, kept: Pointer, resetState: Pointer): void {
  const width = <usize>units << 2;
  for (let n = units, o: usize = 0; n > 0; n -= 4, o += 16) {
    const reset = sigmoidLanes(f32x4.add(loadLanes(x + width + o, n), loadLanes(hs + width + o, n)));
    storeLanes(kept + o, sigmoidLanes(f32x4.add(loadLanes(x + o, n), loadLanes(hs + o, n))), n);
    storeLanes(kept + width + o, reset, n);
    storeLanes(resetState + o, before ? f32x4.mul(reset, loadLanes(before + o, n)) : splat(0), n);
  }
}

/** The candidate of one row and the next state. */
// @ts-ignore: decorator
@inline function goOn(x: Pointer, hs: Pointer, before: Pointer, units: i32, after: bool, kept: Pointer, next: Pointer): void {
  const width = <usize>units << 2;
  for (let n = units, o: usize = 0; n > 0; n -= 4, o += 16) {
    const own = loadLanes(hs + o, n), input = loadLanes(x + o, n), update = loadLanes(kept + o, n);
    const fresh = tanhLanes(after ? multiplyAdd(loadLanes(kept + width + o, n), own, input) : f32x4.add(own, input));
    const h = before ? loadLanes(before + o, n) : splat(0);
    storeLanes(kept + 2 * width + o, fresh, n);
    storeLanes(kept + 3 * width + o, own, n);
    storeLanes(next + o, multiplyAdd(update, f32x4.sub(h, fresh), fresh), n);
  }
}

/** dbias: [3 · units], also where there is no bias. */
export function gruGrad(
  kernel: Pointer, mask: Pointer, kept: Pointer, out: Pointer, dy: Pointer,
  batch: i32, places: i32, units: i32, backwards: bool, after: bool, dx: Pointer, dkernel: Pointer, dbias: Pointer, scratch: Pointer,
): void {
  const width = <usize>units << 2, gates = 3 * units, dh = scratch, ds = dh + <usize>batch * width;
  const dReset = ds + <usize>batch * 3 * width, reset = dReset + <usize>batch * width, own = reset + <usize>batch * width;
  memory.fill(dh, 0, <usize>batch * width);
  memory.fill(dkernel, 0, <usize>units * 3 * width);
  memory.fill(dbias, 0, 3 * width);
  for (let i = places - 1; i >= 0; i--) {
    const step = <usize>(places * units), h = out + <usize>(i - 1) * width;
    for (let b = 0; b < batch; b++) {
      const place = b * places + placeOf(i, places, backwards), at = <usize>(b * places + i), d = dh + <usize>b * width;
      addRun(d, dy + at * width, units);
      if (isHidden(mask, place)) memory.fill(ds + <usize>b * 3 * width, 0, 3 * width);
      else closeCandidate(kept + at * 4 * width, i > 0 ? out + (at - 1) * width : 0, d, units, after, ds + <usize>b * 3 * width);
    }
    // What comes back to reset · h, where the reset lies before the product.
    if (!after) gemm(batch, units, units, ds + 2 * width, gates, 1, kernel + 2 * width, 1, gates, dReset, units, 0, 0, own);
    for (let b = 0; b < batch; b++) {
      const place = b * places + placeOf(i, places, backwards), at = <usize>(b * places + i), d = dx + <usize>place * 3 * width;
      const row = <usize>b * width, isOpen = !isHidden(mask, place);
      if (!after && isOpen) {
        closeReset(kept + at * 4 * width, i > 0 ? out + (at - 1) * width : 0, dReset + row, dh + row, units, ds + 3 * row, reset + row);
      } else if (!after) {
        memory.fill(reset + row, 0, width);
      }
      copyRun(d, ds + 3 * row, gates);
      if (after && isOpen) scaleBy(ds + 3 * row + 2 * width, kept + at * 4 * width + width, units);
    }
    addColumns(ds, batch, gates, dbias);
    if (i == 0) break;
    const together = after ? gates : 2 * units;
    gemm(units, together, batch, h, 1, step, ds, gates, 1, dkernel, gates, ACCUMULATE, 0, own);
    gemm(batch, units, together, ds, gates, 1, kernel, 1, gates, dh, units, ACCUMULATE, 0, own);
    if (!after) gemm(units, units, batch, reset, 1, units, ds + 2 * width, gates, 1, dkernel + 2 * width, gates, ACCUMULATE, 0, own);
  }
}

/** Gradients of one row before its activations, of the reset only where it lies behind the product; dh <- update · dh. */
// @ts-ignore: decorator
@inline function closeCandidate(kept: Pointer, before: Pointer, dh: Pointer, units: i32, after: bool, ds: Pointer): void {
  const width = <usize>units << 2;
  for (let n = units, o: usize = 0; n > 0; n -= 4, o += 16) {
    const update = loadLanes(kept + o, n), fresh = loadLanes(kept + 2 * width + o, n), g = loadLanes(dh + o, n);
    const h = before ? loadLanes(before + o, n) : splat(0);
    const dFresh = f32x4.mul(f32x4.mul(g, f32x4.sub(splat(1), update)), tanhSlope(fresh));
    storeLanes(ds + o, f32x4.mul(f32x4.mul(g, f32x4.sub(h, fresh)), sigmoidSlope(update)), n);
    storeLanes(ds + 2 * width + o, dFresh, n);
    storeLanes(dh + o, f32x4.mul(g, update), n);
    if (after) {
      const reset = loadLanes(kept + width + o, n), own = loadLanes(kept + 3 * width + o, n);
      storeLanes(ds + width + o, f32x4.mul(f32x4.mul(dFresh, own), sigmoidSlope(reset)), n);
    }
  }
}

/** The reset before the product: its gradient, its part of dh, and reset · h again. */
// @ts-ignore: decorator
@inline function closeReset(kept: Pointer, before: Pointer, dReset: Pointer, dh: Pointer, units: i32, ds: Pointer, resetState: Pointer): void {
  const width = <usize>units << 2;
  for (let n = units, o: usize = 0; n > 0; n -= 4, o += 16) {
    const reset = loadLanes(kept + width + o, n), d = loadLanes(dReset + o, n), h = before ? loadLanes(before + o, n) : splat(0);
    storeLanes(ds + width + o, f32x4.mul(f32x4.mul(d, h), sigmoidSlope(reset)), n);
    storeLanes(dh + o, multiplyAdd(d, reset, loadLanes(dh + o, n)), n);
    storeLanes(resetState + o, f32x4.mul(reset, h), n);
  }
}

// @ts-ignore: decorator
@inline function scaleBy(x: Pointer, by: Pointer, units: i32): void {
  for (let n = units, o: usize = 0; n > 0; n -= 4, o += 16) storeLanes(x + o, f32x4.mul(loadLanes(x + o, n), loadLanes(by + o, n)), n);
}
