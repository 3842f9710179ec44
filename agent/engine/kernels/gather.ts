import { sizeOf } from "./heap.ts";
import { ask, type KernelHost } from "./override.ts";

/** Rows of a table and their gradient, which TF.js's wasm backend lacks. */
export function registerGather({ heap, override }: KernelHost): void {
  override<{ readonly axis: number; readonly batchDims: number }>(
    "GatherV2",
    (inputs, { axis, batchDims }) => {
      const x = ask(inputs, "x");
      const indices = ask(inputs, "indices", "int32");
      if (!x || !indices || axis !== 0 || batchDims) return undefined;
      const [rows = 0, ...rest] = x.shape;
      const out = heap.output([...indices.shape, ...rest]);
      const count = sizeOf(indices.shape);
      heap.kernels.gatherRows(heap.at(x), rows, heap.at(indices), count, sizeOf(rest), heap.at(out));
      return out;
    },
  );

  override<{ readonly numSegments: number }>("UnsortedSegmentSum", (inputs, { numSegments }) => {
    const x = ask(inputs, "x");
    const ids = ask(inputs, "segmentIds", "int32");
    if (!x || !ids || numSegments === 0) return undefined;
    const count = sizeOf(ids.shape);
    const rest = x.shape.slice(ids.shape.length);
    if (count * sizeOf(rest) !== sizeOf(x.shape)) throw new Error("UnsortedSegmentSum: one segment id a row");
    const out = heap.output([numSegments, ...rest]);
    heap.kernels.scatterAddRows(heap.at(x), heap.at(ids), count, sizeOf(rest), heap.at(out), numSegments);
    return out;
  });
}
