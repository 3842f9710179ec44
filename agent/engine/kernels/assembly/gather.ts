import { addRun, copyRun, Pointer } from "./vector";

/** out[i] = table[ids[i]]; an id outside the table gives a row of zeros, as a read past it would leave the tensor. */
export function gatherRows(table: Pointer, tableRows: i32, ids: Pointer, count: i32, width: i32, out: Pointer): void {
  const pitch = <usize>width << 2;
  for (; count > 0; count--, ids += 4, out += pitch) {
    const id = load<i32>(ids);
    if (<u32>id < <u32>tableRows) copyRun(out, table + <usize>id * pitch, width);
    else memory.fill(out, 0, pitch);
  }
}

/** out[segments, width] zeroed, then out[ids[i]] += x[i]; ids out of range are dropped. */
export function scatterAddRows(x: Pointer, ids: Pointer, count: i32, width: i32, out: Pointer, segments: i32): void {
  const pitch = <usize>width << 2;
  memory.fill(out, 0, <usize>segments * pitch);
  for (; count > 0; count--, ids += 4, x += pitch) {
    const s = load<i32>(ids);
    if (<u32>s < <u32>segments) addRun(out + <usize>s * pitch, x, width);
  }
}
