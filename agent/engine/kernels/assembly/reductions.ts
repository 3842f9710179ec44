import { Pointer, splat, sumLanes } from "./vector";

/** Rows whose sums are kept apart before they are added: keeps the rounding error of long columns small. */
export const ROWS_AT_ONCE: i32 = 256;
const COLUMNS_AT_ONCE: i32 = 1024;

/** out[c] = sum over rows of x[r, c]. */
export function columnSum(x: Pointer, rows: i32, columns: i32, out: Pointer): void {
  const pitch = <usize>columns << 2;
  memory.fill(out, 0, pitch);
  for (let r = 0; r < rows; r += ROWS_AT_ONCE) addColumns(x + <usize>r * pitch, min(ROWS_AT_ONCE, rows - r), columns, out);
}

/** out[c] += sum over rows of x[r, c]. */
export function addColumns(x: Pointer, rows: i32, columns: i32, out: Pointer): void {
  const pitch = <usize>columns << 2;
  let c = 0;
  for (; c + 16 <= columns; c += 16) {
    let s0 = splat(0), s1 = s0, s2 = s0, s3 = s0, p = x + (<usize>c << 2);
    const o = out + (<usize>c << 2);
    for (let r = 0; r < rows; r++, p += pitch) {
      s0 = f32x4.add(s0, v128.load(p));
      s1 = f32x4.add(s1, v128.load(p, 16));
      s2 = f32x4.add(s2, v128.load(p, 32));
      s3 = f32x4.add(s3, v128.load(p, 48));
    }
    v128.store(o, f32x4.add(s0, v128.load(o)));
    v128.store(o, f32x4.add(s1, v128.load(o, 16)), 16);
    v128.store(o, f32x4.add(s2, v128.load(o, 32)), 32);
    v128.store(o, f32x4.add(s3, v128.load(o, 48)), 48);
  }
  for (; c < columns; c++) {
    let s: f32 = 0, p = x + (<usize>c << 2);
    for (let r = 0; r < rows; r++, p += pitch) s += load<f32>(p);
    const o = out + (<usize>c << 2);
    store<f32>(o, load<f32>(o) + s);
  }
}

export function rowTotal(x: Pointer, n: i32): f32 {
  let s0 = splat(0), s1 = s0;
  for (; n >= 8; n -= 8, x += 32) {
    s0 = f32x4.add(s0, v128.load(x));
    s1 = f32x4.add(s1, v128.load(x, 16));
  }
  let s = sumLanes(f32x4.add(s0, s1));
  for (; n > 0; n--, x += 4) s += load<f32>(x);
  return s;
}

/** out[r] = sum over columns of x[r, c]. */
export function rowSum(x: Pointer, rows: i32, columns: i32, out: Pointer): void {
  for (let r = 0; r < rows; r++, out += 4) {
    let s: f32 = 0;
    for (let c = 0; c < columns; c += COLUMNS_AT_ONCE) {
      const n = min(COLUMNS_AT_ONCE, columns - c);
      s += rowTotal(x, n);
      x += <usize>n << 2;
    }
    store<f32>(out, s);
  }
}

/** dx = y > 0 ? dy : 0, of n elements. */
export function reluGrad(y: Pointer, dy: Pointer, dx: Pointer, n: i32): void {
  for (; n >= 8; n -= 8, y += 32, dy += 32, dx += 32) {
    const d0 = v128.and(v128.load(dy), f32x4.gt(v128.load(y), splat(0)));
    const d1 = v128.and(v128.load(dy, 16), f32x4.gt(v128.load(y, 16), splat(0)));
    v128.store(dx, d0);
    v128.store(dx, d1, 16);
  }
  for (; n > 0; n--, y += 4, dy += 4, dx += 4) store<f32>(dx, load<f32>(y) > 0 ? load<f32>(dy) : 0);
}

/** dx = y > 0 ? dy : 0, and db[c] = column sums of dx: the backward pass of bias + ReLU in one sweep. */
export function reluBiasGrad(y: Pointer, dy: Pointer, dx: Pointer, rows: i32, columns: i32, db: Pointer): void {
  memory.fill(db, 0, <usize>columns << 2);
  for (let r = 0; r < rows; r += ROWS_AT_ONCE) {
    const n = min(ROWS_AT_ONCE, rows - r), size = n * columns, bytes = <usize>size << 2;
    reluGrad(y, dy, dx, size);
    addColumns(dx, n, columns, db);
    y += bytes;
    dy += bytes;
    dx += bytes;
  }
}
