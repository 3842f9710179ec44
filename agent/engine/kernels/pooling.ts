import assert from "node:assert/strict";
import type { backend_util } from "@tensorflow/tfjs";
import { windowOf } from "./convolution.ts";
import { sizeOf } from "./heap.ts";
import { ask, type KernelHost } from "./override.ts";

type Info = Parameters<typeof backend_util.computePool2DInfo>;

/** Mends MaxPoolGrad: the kernel of TF.js's wasm backend drops windows whose maximum is negative. */
export function registerPooling({ tf, heap, override }: KernelHost): void {
  interface PoolAttributes {
    readonly filterSize: Info[1];
    readonly strides: Info[2];
    readonly pad: Info[4];
    readonly dimRoundingMode?: Info[5];
  }
  override<PoolAttributes>("MaxPoolGrad", (inputs, { filterSize, strides, pad, dimRoundingMode }) => {
    const input = ask(inputs, "input");
    const dy = ask(inputs, "dy");
    if (!input || !dy) return undefined;
    const shape = input.shape as [number, number, number, number];
    const info = tf.backend_util.computePool2DInfo(shape, filterSize, strides, 1, pad, dimRoundingMode);
    assert.equal(sizeOf(dy.shape), sizeOf(info.outShape), "dy fits the pool");
    const out = heap.output(shape);
    heap.kernels.maxPoolGrad(heap.at(input), heap.at(dy), ...windowOf(info), heap.at(out));
    return out;
  });
}
