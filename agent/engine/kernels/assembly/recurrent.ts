import { sigmoidLanes, tanhLanes } from "./activation";
import { loadLanes, multiplyAdd, Pointer, splat, storeLanes } from "./vector";

/**
 * A step of an LSTM behind its matrix products. z [rows, 4 · units]: input, forget, candidate, output, before their activations;
 * c [rows, units]. Writes h and the new c [rows, units], and the activated gates [rows, 4 · units] for the gradient.
 */
export function lstmCell(z: Pointer, c: Pointer, rows: i32, units: i32, gates: Pointer, h: Pointer, next: Pointer): void {
  const pitch = <usize>units << 2;
  for (; rows > 0; rows--, z += 4 * pitch, gates += 4 * pitch, c += pitch, h += pitch, next += pitch) {
    for (let n = units, o: usize = 0; n > 0; n -= 4, o += 16) {
      const input = sigmoidLanes(loadLanes(z + o, n)), forget = sigmoidLanes(loadLanes(z + pitch + o, n));
      const candidate = tanhLanes(loadLanes(z + 2 * pitch + o, n)), output = sigmoidLanes(loadLanes(z + 3 * pitch + o, n));
      const cell = multiplyAdd(forget, loadLanes(c + o, n), f32x4.mul(input, candidate));
      storeLanes(gates + o, input, n);
      storeLanes(gates + pitch + o, forget, n);
      storeLanes(gates + 2 * pitch + o, candidate, n);
      storeLanes(gates + 3 * pitch + o, output, n);
      storeLanes(next + o, cell, n);
      storeLanes(h + o, f32x4.mul(output, tanhLanes(cell)), n);
    }
  }
}

/** s · (1 - s), the slope of a sigmoid whose value is s. */
// @ts-ignore: decorator
@inline function slope(s: v128): v128 {
  return f32x4.mul(s, f32x4.sub(splat(1), s));
}

export function lstmCellGrad(
  gates: Pointer, c: Pointer, next: Pointer, dh: Pointer, dnext: Pointer, rows: i32, units: i32, dz: Pointer, dc: Pointer,
): void {
  const pitch = <usize>units << 2;
  for (let r = 0; r < rows; r++, gates += 4 * pitch, dz += 4 * pitch) {
    for (let n = units, o: usize = 0; n > 0; n -= 4, o += 16) {
      const input = loadLanes(gates + o, n), forget = loadLanes(gates + pitch + o, n);
      const candidate = loadLanes(gates + 2 * pitch + o, n), output = loadLanes(gates + 3 * pitch + o, n);
      const t = tanhLanes(loadLanes(next + o, n)), g = loadLanes(dh + o, n);
      const cell = multiplyAdd(f32x4.mul(g, output), f32x4.sub(splat(1), f32x4.mul(t, t)), loadLanes(dnext + o, n));
      storeLanes(dz + o, f32x4.mul(f32x4.mul(cell, candidate), slope(input)), n);
      storeLanes(dz + pitch + o, f32x4.mul(f32x4.mul(cell, loadLanes(c + o, n)), slope(forget)), n);
      const flat = f32x4.sub(splat(1), f32x4.mul(candidate, candidate));
      storeLanes(dz + 2 * pitch + o, f32x4.mul(f32x4.mul(cell, input), flat), n);
      storeLanes(dz + 3 * pitch + o, f32x4.mul(f32x4.mul(g, t), slope(output)), n);
      storeLanes(dc + o, f32x4.mul(cell, forget), n);
    }
    c += pitch;
    next += pitch;
    dh += pitch;
    dnext += pitch;
    dc += pitch;
  }
}
