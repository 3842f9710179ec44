import { sizeOf } from "./heap.ts";
import { ask, type KernelHost } from "./override.ts";

/** Sum over leading or trailing axes, and Softmax. */
export function registerReductions({ tf, heap, override }: KernelHost): void {
  override<{ readonly axis: number | number[]; readonly keepDims: boolean }>(
    "Sum",
    (inputs, { axis, keepDims }) => {
      const x = ask(inputs, "x");
      if (!x || x.shape.length === 0) return undefined;
      const axes = tf.util.parseAxisParam(axis, x.shape).toSorted((a, b) => a - b);
      const rank = x.shape.length;
      const isLeading = axes.every((axis, i) => axis === i);
      const isTrailing = axes.every((axis, i) => axis === rank - axes.length + i);
      if (axes.length === 0 || (!isLeading && !isTrailing)) return undefined;
      const kept = x.shape.filter((_, i) => !axes.includes(i));
      const reducedSize = sizeOf(axes.map((axis) => x.shape[axis] ?? 1));
      const out = heap.output(keepDims ? x.shape.map((length, i) => (axes.includes(i) ? 1 : length)) : kept);
      if (isTrailing) heap.kernels.rowSum(heap.at(x), sizeOf(kept), reducedSize, heap.at(out));
      else heap.kernels.columnSum(heap.at(x), reducedSize, sizeOf(kept), heap.at(out));
      return out;
    },
  );

  override("Softmax", (inputs) => {
    const logits = ask(inputs, "logits");
    const columns = logits?.shape.at(-1);
    if (!logits || columns === undefined) return undefined;
    const out = heap.output(logits.shape);
    heap.kernels.softmax(heap.at(logits), heap.at(out), sizeOf(logits.shape) / columns, columns);
    return out;
  });
}
