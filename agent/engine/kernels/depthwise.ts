import assert from "node:assert/strict";
import type { KernelConfig, TensorInfo } from "@tensorflow/tfjs";
import { type ConvAttributes, windowOf } from "./convolution.ts";
import { sizeOf } from "./heap.ts";
import { ask, type KernelHost } from "./override.ts";

/**
 * Both gradients of the depthwise convolution, which TF.js's wasm backend lacks; TF.js asks for none with dilation. And its
 * forward pass mended: where a stride is longer than its window, the kernel of TF.js may leave zeros.
 */
export function registerDepthwise(host: KernelHost): void {
  const { tf, heap, override } = host;
  mendForward(host);
  const geometry = (dy: TensorInfo, xShape: number[], filterShape: number[], attributes: ConvAttributes) => {
    const info = tf.backend_util.computeConv2DInfo(
      xShape as Shape4,
      filterShape as Shape4,
      attributes.strides,
      1,
      attributes.pad,
      attributes.dimRoundingMode,
      true,
    );
    assert.equal(info.inChannels, filterShape[2], "the filter has the channels of the input");
    assert.equal(sizeOf(dy.shape), sizeOf(info.outShape), "dy fits the convolution");
    const [filterHeight, filterWidth, , multiplier] = filterShape as Shape4;
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

/**
 * The kernel of TF.js tells XNNPACK to find the padding of "same" by itself, which fails, without a word, where a stride is
 * longer than the window. Told what the padding is, the same kernel computes.
 */
function mendForward({ tf, override }: KernelHost): void {
  const kernelName = "DepthwiseConv2dNative";
  const theirs = tf.getKernel(kernelName, "wasm") as KernelConfig;
  override<ConvAttributes>(kernelName, (inputs, attributes) => {
    const { strides, pad } = attributes;
    const [x, filter] = [ask(inputs, "x"), ask(inputs, "filter")];
    if (!x || !filter || pad !== "same") return undefined;
    const [down, across] = typeof strides === "number" ? [strides, strides] : strides;
    if (down <= filter.shape[0]! && across <= filter.shape[1]!) return undefined;
    const { top, bottom, left, right } = tf.backend_util.computeConv2DInfo(
      x.shape as Shape4,
      filter.shape as Shape4,
      strides,
      1,
      pad,
      attributes.dimRoundingMode,
      true,
    ).padInfo;
    const explicit = [[0, 0], [top, bottom], [left, right], [0, 0]]; // biome-ignore format: one axis a pair
    const attrs = { ...attributes, pad: explicit } as never;
    return theirs.kernelFunc({ inputs: { x, filter }, attrs, backend: tf.backend() }) as TensorInfo;
  });
}

type Shape4 = [number, number, number, number];
