// x is [rows, columns]. gamma and beta are [columns]; beta may be 0 for none.

import { columnSum, rowTotal, ROWS_AT_ONCE } from "./reductions";
import { loadLanes, multiplyAdd, Pointer, splat, storeLanes, sumLanes } from "./vector";

/** Clears the lanes from n on, so that a sum over all four is one over the first n. */
// @ts-ignore: decorator
@inline function firstLanes(v: v128, n: i32): v128 {
  return n >= 4 ? v : v128.and(v, i32x4.gt_s(i32x4.splat(n), i32x4(0, 1, 2, 3)));
}

/** y = (x - mean) / √(variance + epsilon) · gamma + beta of each row; stats [rows, 2] <- mean, 1 / √(variance + epsilon). */
export function layerNorm(
  x: Pointer, gamma: Pointer, beta: Pointer, epsilon: f32, rows: i32, columns: i32, y: Pointer, stats: Pointer,
): void {
  const pitch = <usize>columns << 2, count = <f32>columns;
  for (let r = 0; r < rows; r++, x += pitch, y += pitch, stats += 8) {
    const mean = rowTotal(x, columns) / count, m = splat(mean);
    let squares = splat(0);
    for (let n = columns, o: usize = 0; n > 0; n -= 4, o += 16) {
      const d = firstLanes(f32x4.sub(loadLanes(x + o, n), m), n);
      squares = multiplyAdd(d, d, squares);
    }
    const inverse = <f32>1 / sqrt<f32>(sumLanes(squares) / count + epsilon), k = splat(inverse);
    for (let n = columns, o: usize = 0; n > 0; n -= 4, o += 16) {
      const normalized = f32x4.mul(f32x4.sub(loadLanes(x + o, n), m), k);
      storeLanes(y + o, multiplyAdd(normalized, loadLanes(gamma + o, n), beta ? loadLanes(beta + o, n) : splat(0)), n);
    }
    store<f32>(stats, mean);
    store<f32>(stats, inverse, 4);
  }
}

/** dgamma and dbeta: [columns] each, also where there is no beta. */
export function layerNormGrad(
  x: Pointer, gamma: Pointer, stats: Pointer, dy: Pointer, rows: i32, columns: i32,
  dx: Pointer, dgamma: Pointer, dbeta: Pointer,
): void {
  const pitch = <usize>columns << 2, count = <f32>columns;
  memory.fill(dgamma, 0, pitch);
  memory.fill(dbeta, 0, pitch);
  for (let r = 0; r < rows; r++, x += pitch, dy += pitch, dx += pitch, stats += 8) {
    const m = splat(load<f32>(stats)), k = splat(load<f32>(stats, 4));
    let sum = splat(0), dot = sum;
    for (let n = columns, o: usize = 0; n > 0; n -= 4, o += 16) {
      // Zero beyond the row, as loadLanes leaves it, and so is all that is summed.
      const g = loadLanes(dy + o, n), normalized = f32x4.mul(f32x4.sub(loadLanes(x + o, n), m), k);
      const scaled = f32x4.mul(g, loadLanes(gamma + o, n));
      sum = f32x4.add(sum, scaled);
      dot = multiplyAdd(scaled, normalized, dot);
      storeLanes(dgamma + o, multiplyAdd(g, normalized, loadLanes(dgamma + o, n)), n);
      storeLanes(dbeta + o, f32x4.add(g, loadLanes(dbeta + o, n)), n);
    }
    const meanSum = splat(sumLanes(sum) / count), meanDot = splat(sumLanes(dot) / count);
    for (let n = columns, o: usize = 0; n > 0; n -= 4, o += 16) {
      const normalized = f32x4.mul(f32x4.sub(loadLanes(x + o, n), m), k);
      const scaled = f32x4.mul(loadLanes(dy + o, n), loadLanes(gamma + o, n));
      storeLanes(dx + o, f32x4.mul(k, f32x4.sub(f32x4.sub(scaled, meanSum), f32x4.mul(normalized, meanDot))), n);
    }
  }
}

/**
 * y = (x - mean) / √(variance + epsilon) · gamma + beta of each column, mean and (biased) variance over the rows.
 * mean, variance, inverse = 1 / √(variance + epsilon): [columns] each.
 */
export function batchNorm(
  x: Pointer, gamma: Pointer, beta: Pointer, epsilon: f32, rows: i32, columns: i32,
  y: Pointer, mean: Pointer, variance: Pointer, inverse: Pointer,
): void {
  const pitch = <usize>columns << 2, share = splat(<f32>1 / <f32>rows);
  columnSum(x, rows, columns, mean);
  for (let n = columns, o: usize = 0; n > 0; n -= 4, o += 16) {
    storeLanes(mean + o, f32x4.mul(loadLanes(mean + o, n), share), n);
  }
  memory.fill(variance, 0, pitch);
  for (let r = 0; r < rows; r += ROWS_AT_ONCE) {
    addSquares(x + <usize>r * pitch, mean, min(ROWS_AT_ONCE, rows - r), columns, variance);
  }
  for (let n = columns, o: usize = 0; n > 0; n -= 4, o += 16) {
    const v = f32x4.mul(loadLanes(variance + o, n), share);
    storeLanes(variance + o, v, n);
    storeLanes(inverse + o, f32x4.div(splat(1), f32x4.sqrt(f32x4.add(v, splat(epsilon)))), n);
  }
  for (let r = 0; r < rows; r++, x += pitch, y += pitch) {
    for (let n = columns, o: usize = 0; n > 0; n -= 4, o += 16) {
      const normalized = f32x4.mul(f32x4.sub(loadLanes(x + o, n), loadLanes(mean + o, n)), loadLanes(inverse + o, n));
      storeLanes(y + o, multiplyAdd(normalized, loadLanes(gamma + o, n), beta ? loadLanes(beta + o, n) : splat(0)), n);
    }
  }
}

/** out[c] += sum over the rows of (x[r, c] - mean[c])². */
function addSquares(x: Pointer, mean: Pointer, rows: i32, columns: i32, out: Pointer): void {
  const pitch = <usize>columns << 2;
  for (let n = columns, o: usize = 0; n > 0; n -= 8, o += 32) {
    const m0 = loadLanes(mean + o, n), m1 = n > 4 ? loadLanes(mean + o + 16, n - 4) : m0;
    let s0 = splat(0), s1 = s0, p = x + o;
    for (let r = 0; r < rows; r++, p += pitch) {
      const d0 = f32x4.sub(loadLanes(p, n), m0);
      s0 = multiplyAdd(d0, d0, s0);
      if (n > 4) {
        const d1 = f32x4.sub(loadLanes(p + 16, n - 4), m1);
        s1 = multiplyAdd(d1, d1, s1);
      }
    }
    storeLanes(out + o, f32x4.add(s0, loadLanes(out + o, n)), n);
    if (n > 4) storeLanes(out + o + 16, f32x4.add(s1, loadLanes(out + o + 16, n - 4)), n - 4);
  }
}

/** As in layerNormGrad; the gradient knows that mean and variance depend on x. */
export function batchNormGrad(
  x: Pointer, gamma: Pointer, mean: Pointer, inverse: Pointer, dy: Pointer, rows: i32, columns: i32,
  dx: Pointer, dgamma: Pointer, dbeta: Pointer,
): void {
  const pitch = <usize>columns << 2, share = splat(<f32>1 / <f32>rows);
  columnSum(dy, rows, columns, dbeta);
  memory.fill(dgamma, 0, pitch);
  for (let r = 0; r < rows; r += ROWS_AT_ONCE) {
    const at = <usize>r * pitch;
    addProducts(x + at, mean, inverse, dy + at, min(ROWS_AT_ONCE, rows - r), columns, dgamma);
  }
  for (let r = 0; r < rows; r++, x += pitch, dy += pitch, dx += pitch) {
    for (let n = columns, o: usize = 0; n > 0; n -= 4, o += 16) {
      const k = loadLanes(inverse + o, n);
      const normalized = f32x4.mul(f32x4.sub(loadLanes(x + o, n), loadLanes(mean + o, n)), k);
      const centred = f32x4.sub(loadLanes(dy + o, n), f32x4.mul(share, loadLanes(dbeta + o, n)));
      const slope = f32x4.sub(centred, f32x4.mul(normalized, f32x4.mul(share, loadLanes(dgamma + o, n))));
      storeLanes(dx + o, f32x4.mul(f32x4.mul(k, loadLanes(gamma + o, n)), slope), n);
    }
  }
}

/** out[c] += sum over the rows of dy[r, c] · (x[r, c] - mean[c]) · inverse[c]. */
function addProducts(
  x: Pointer, mean: Pointer, inverse: Pointer, dy: Pointer, rows: i32, columns: i32, out: Pointer,
): void {
  const pitch = <usize>columns << 2;
  for (let n = columns, o: usize = 0; n > 0; n -= 4, o += 16) {
    const m = loadLanes(mean + o, n);
    let s = splat(0), p = o;
    for (let r = 0; r < rows; r++, p += pitch) {
      s = multiplyAdd(loadLanes(dy + p, n), f32x4.sub(loadLanes(x + p, n), m), s);
    }
    storeLanes(out + o, multiplyAdd(s, loadLanes(inverse + o, n), loadLanes(out + o, n)), n);
  }
}
