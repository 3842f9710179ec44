// softmax(scale · Q Kᵀ) V for each head. q is [batch, queries, heads · size], k and v are [batch, keys, heads · size]: read in
// place by strides, so no head is ever transposed. `mask` is [batch, keys], 0 where a key is hidden, or no pointer.
// `probabilities` [batch, heads, queries, keys] is kept for the backward pass.

import { expLanes } from "./exponential";
import { gemm } from "./gemm";
import { largest, scale as scaleRun } from "./softmax";
import { loadLanes, multiplyAdd, Pointer, splat, storeLanes, sumLanes } from "./vector";

export function attention(
  q: Pointer, k: Pointer, v: Pointer, mask: Pointer,
  batch: i32, queries: i32, keys: i32, heads: i32, size: i32, causal: bool,
  probabilities: Pointer, out: Pointer, scratch: Pointer,
): void {
  const width = <usize>(heads * size), factor = <f32>1 / sqrt<f32>(<f32>size);
  for (let b = 0; b < batch; b++) for (let h = 0; h < heads; h++) {
    const oq = (<usize>(b * queries) * width + <usize>(h * size)) << 2;
    const ok = (<usize>(b * keys) * width + <usize>(h * size)) << 2;
    gemm(queries, keys, size, q + oq, width, 1, k + ok, 1, width, probabilities, keys, 0, 0, scratch);
    const hidden = mask ? mask + (<usize>(b * keys) << 2) : 0;
    for (let i = 0; i < queries; i++) {
      const visible = causal ? max(0, i + 1 + keys - queries) : keys;
      weigh(probabilities + (<usize>(i * keys) << 2), visible, keys, hidden, factor);
    }
    gemm(queries, size, keys, probabilities, keys, 1, v + ok, width, 1, out + oq, width, 0, 0, scratch);
    probabilities += <usize>(queries * keys) << 2;
  }
}

/** In place: the softmax of factor · x over the first `visible` of n that are not hidden; zero elsewhere. */
function weigh(x: Pointer, visible: i32, n: i32, mask: Pointer, factor: f32): void {
  if (mask) {
    for (let i = 0, o: usize = 0; i < visible; i++, o += 4) if (load<f32>(mask + o) == 0) store<f32>(x + o, -Infinity);
  }
  const top = largest(x, visible), tail = x + (<usize>visible << 2);
  if (top == -Infinity) {
    memory.fill(x, 0, <usize>n << 2);
    return;
  }
  const f = splat(factor), shift = splat(-top * factor);
  let s = splat(0);
  let i = visible, p = x;
  for (; i >= 4; i -= 4, p += 16) {
    const e = expLanes(multiplyAdd(v128.load(p), f, shift));
    v128.store(p, e);
    s = f32x4.add(s, e);
  }
  let total = sumLanes(s);
  if (i > 0) {
    storeLanes(p, expLanes(multiplyAdd(loadLanes(p, i), f, shift)), i);
    for (; i > 0; i--, p += 4) total += load<f32>(p);
  }
  scaleRun(x, visible, 1 / total);
  memory.fill(tail, 0, <usize>(n - visible) << 2);
}

/** scratch: gemm's, then queries · keys floats. */
export function attentionGrad(
  q: Pointer, k: Pointer, v: Pointer, probabilities: Pointer, dout: Pointer,
  batch: i32, queries: i32, keys: i32, heads: i32, size: i32,
  dq: Pointer, dk: Pointer, dv: Pointer, dscore: Pointer, scratch: Pointer,
): void {
  const width = <usize>(heads * size), factor = <f32>1 / sqrt<f32>(<f32>size), pitch = <usize>keys << 2;
  for (let b = 0; b < batch; b++) for (let h = 0; h < heads; h++) {
    const oq = (<usize>(b * queries) * width + <usize>(h * size)) << 2;
    const ok = (<usize>(b * keys) * width + <usize>(h * size)) << 2;
    gemm(keys, size, queries, probabilities, 1, keys, dout + oq, width, 1, dv + ok, width, 0, 0, scratch);
    gemm(queries, keys, size, dout + oq, width, 1, v + ok, 1, width, dscore, keys, 0, 0, scratch);
    for (let i = 0; i < queries; i++) softmaxGrad(probabilities + <usize>i * pitch, dscore + <usize>i * pitch, keys, factor);
    gemm(queries, size, keys, dscore, keys, 1, k + ok, width, 1, dq + oq, width, 0, 0, scratch);
    gemm(keys, size, queries, dscore, 1, keys, q + oq, width, 1, dk + ok, width, 0, 0, scratch);
    probabilities += <usize>queries * pitch;
  }
}

/** In place: d <- factor · p · (d - Σ p·d). */
function softmaxGrad(p: Pointer, d: Pointer, count: i32, factor: f32): void {
  let s = splat(0);
  for (let n = count, o: usize = 0; n > 0; n -= 4, o += 16) s = multiplyAdd(loadLanes(p + o, n), loadLanes(d + o, n), s);
  const dot = splat(sumLanes(s)), f = splat(factor);
  for (let n = count, o: usize = 0; n > 0; n -= 4, o += 16) {
    storeLanes(d + o, f32x4.mul(f32x4.mul(f, loadLanes(p + o, n)), f32x4.sub(loadLanes(d + o, n), dot)), n);
  }
}
