import assert from "node:assert/strict";
import type { TensorInfo } from "@tensorflow/tfjs";
import { type ConvAttributes, windowOf } from "./convolution.ts";
import { sizeOf } from "./heap.ts";
import { ask, type KernelHost } from "./override.ts";

/** Both gradients of the depthwise convolution, which TF.js's wasm backend lacks. TF.js asks for none with dilation. */
export function registerDepthwise({ tf, heap, override }: KernelHost): void {
  const geometry = (dy: TensorInfo, xShape: number[], filterShape: number[], attributes: ConvAttributes) => {
    const info = tf.backend_util.computeConv2DInfo(
      xShape as [number, number, number, number],
      filterShape as [number, number, number, number],
      attributes.strides,
      1,
      attributes.pad,
      attributes.dimRoundingMode,
      true,
    );
    assert.equal(info.inChannels, filterShape[2], "the filter has the channels of the input");
    assert.equal(sizeOf(dy.shape), sizeOf(info.outShape), "dy fits the convolution");
    const [filterHeight, filterWidth, , multiplier] = filterShape as [number, number, number, number];
    const window = windowOf(info, { height: filterHeight, width: filterWidth });
    return [...window, multiplier] as const;
  };

  override<ConvAttributes & { readonly filterShape: number[] }>(
    "DepthwiseConv2dNativeBackpropFilter",
    (inputs, attributes) => {
      const x = ask(inputs, "x");
      const dy = ask(inputs, "dy");
      if (!x || !dy) return undefined;
      const shape = geometry(dy, x.shape, attributes.filterShape, attributes);
      const out = heap.output(attributes.filterShape);
      heap.kernels.depthwiseFilterGrad(heap.at(x), heap.at(dy), ...shape, heap.at(out));
      return out;
    },
  );

  override<ConvAttributes & { readonly inputShape: number[] }>(
    "DepthwiseConv2dNativeBackpropInput",
    (inputs, attributes) => {
      const dy = ask(inputs, "dy");
      const filter = ask(inputs, "filter");
      if (!dy || !filter) return undefined;
      const shape = geometry(dy, attributes.inputShape, filter.shape, attributes);
      const out = heap.output(attributes.inputShape);
      heap.kernels.depthwiseInputGrad(heap.at(dy), heap.at(filter), ...shape, heap.at(out));
      return out;
    },
  );
}
