import { expLanes, log } from "./exponential";
import { loadTail, maxLanes, Pointer, splat, storeTail, sumLanes } from "./vector";

/** out <- e^(x - max x); returns the sum. */
function exponentials(x: Pointer, n: i32, top: f32, out: Pointer): f32 {
  const shift = splat(top);
  let s = splat(0), i = 0, o: usize = 0;
  for (; i + 4 <= n; i += 4, o += 16) {
    const e = expLanes(f32x4.sub(v128.load(x + o), shift));
    v128.store(out + o, e);
    s = f32x4.add(s, e);
  }
  let total = sumLanes(s);
  const tail = n - i;
  if (tail) {
    storeTail(out + o, expLanes(f32x4.sub(loadTail(x + o, tail), shift)), tail);
    for (; i < n; i++, o += 4) total += load<f32>(out + o);
  }
  return total;
}

export function largest(x: Pointer, n: i32): f32 {
  let m = splat(-Infinity), i = 0;
  for (; i + 4 <= n; i += 4, x += 16) m = f32x4.pmax(m, v128.load(x));
  let top = maxLanes(m);
  for (; i < n; i++, x += 4) top = max(top, load<f32>(x));
  return top;
}

export function scale(x: Pointer, n: i32, by: f32): void {
  const factor = splat(by);
  for (; n >= 4; n -= 4, x += 16) v128.store(x, f32x4.mul(v128.load(x), factor));
  for (; n > 0; n--, x += 4) store<f32>(x, load<f32>(x) * by);
}

/** Softmax of each row. */
export function softmax(x: Pointer, out: Pointer, rows: i32, columns: i32): void {
  const pitch = <usize>columns << 2;
  for (; rows > 0; rows--, x += pitch, out += pitch) {
    scale(out, columns, 1 / exponentials(x, columns, largest(x, columns), out));
  }
}

/**
 * Sum over rows of the softmax cross-entropy, and its gradient: grad = softmax(logits) - onehot(labels).
 * lossOut and correctOut: one float each; `correct` counts the rows whose first largest logit is that of the label.
 * labels: int32, one a row; a row whose label is out of range counts with loss 0 and gradient 0.
 */
export function softmaxCrossEntropy(
  logits: Pointer, labels: Pointer, rows: i32, columns: i32, lossOut: Pointer, correctOut: Pointer, grad: Pointer,
): void {
  const pitch = <usize>columns << 2;
  let loss: f64 = 0, correct = 0;
  for (; rows > 0; rows--, logits += pitch, labels += 4, grad += pitch) {
    const label = load<i32>(labels);
    if (<u32>label >= <u32>columns) {
      memory.fill(grad, 0, pitch);
      continue;
    }
    const top = largest(logits, columns), total = exponentials(logits, columns, top, grad);
    scale(grad, columns, 1 / total);
    const at = <usize>label << 2, own = load<f32>(logits + at);
    store<f32>(grad + at, load<f32>(grad + at) - 1);
    loss += <f64>(log(total) - (own - top));
    if (own == top) {
      let first: usize = 0;
      while (load<f32>(logits + first) != top) first += 4;
      if (first == at) correct++;
    }
  }
  store<f32>(lossOut, <f32>loss);
  store<f32>(correctOut, <f32>correct);
}
