import assert from "node:assert/strict";
import type { backend_util, TensorInfo } from "@tensorflow/tfjs";
import type { Tf } from "../runtime.ts";
import { type Heap, scratchFloatsMax, sizeOf } from "./heap.ts";
import { isColumnBias, isFusable } from "./matmul.ts";
import { kernelFlags, type WindowGeometry } from "./module.ts";
import { ask, type KernelHost, type TensorHost } from "./override.ts";

type Info = Parameters<typeof backend_util.computeConv2DInfo>;

export interface ConvAttributes {
  readonly strides: [number, number] | number;
  readonly pad: Info[4];
  readonly dilations?: [number, number] | number;
  readonly dimRoundingMode?: Info[5];
  readonly dataFormat?: string;
}

type Shape4 = [number, number, number, number];

/** Geometry of a convolution that our kernels cover, or null: NHWC, not grouped, something to sum over. */
function geometry(tf: Tf, heap: Heap, xShape: number[], filterShape: number[], attributes: ConvAttributes) {
  const { strides, pad, dilations = 1, dimRoundingMode, dataFormat = "NHWC" } = attributes;
  if (dataFormat !== "NHWC") return null;
  const info = tf.backend_util.computeConv2DInfo(
    xShape as Shape4,
    filterShape as Shape4,
    strides,
    dilations,
    pad,
    dimRoundingMode,
  );
  if (info.inChannels !== filterShape[2]) return null;
  if (sizeOf(info.outShape) === 0 || sizeOf(filterShape) * 192 > scratchFloatsMax) return null;
  const { filterHeight, filterWidth, inChannels, outChannels } = info;
  const scratchFloats = heap.kernels.convScratch(filterHeight, filterWidth, inChannels, outChannels);
  if (scratchFloats > scratchFloatsMax) return null;
  const window = [...windowOf(info), info.dilationHeight, info.dilationWidth] as const;
  return { outShape: info.outShape, outChannels, window, scratchFloats };
}

export const windowOf = (
  info: backend_util.Conv2DInfo,
  filter = { height: info.filterHeight, width: info.filterWidth },
): WindowGeometry => [
  info.batchSize,
  info.inHeight,
  info.inWidth,
  info.inChannels,
  filter.height,
  filter.width,
  info.outHeight,
  info.outWidth,
  info.strideHeight,
  info.strideWidth,
  info.padInfo.top,
  info.padInfo.left,
];

export function conv2d(
  { tf, heap }: TensorHost,
  x: TensorInfo,
  filter: TensorInfo,
  attributes: ConvAttributes,
  { bias, relu }: { readonly bias?: TensorInfo | undefined; readonly relu?: boolean } = {},
): TensorInfo | undefined {
  const shape = geometry(tf, heap, x.shape, filter.shape, attributes);
  if (!shape) return undefined;
  const out = heap.output(shape.outShape);
  const scratch = heap.scratch(shape.scratchFloats);
  const flags = (bias ? kernelFlags.bias : 0) | (relu ? kernelFlags.relu : 0);
  heap.kernels.conv2d(
    heap.at(x),
    heap.at(filter),
    ...shape.window,
    shape.outChannels,
    flags,
    bias ? heap.at(bias) : 0,
    heap.at(out),
    scratch,
  );
  return out;
}

/** Gradients behind a ReLU that put out `y`; without one, of what the convolution itself put out. */
interface OutputGradient {
  readonly dy: TensorInfo;
  readonly y?: TensorInfo | undefined;
}

/** @param dbias takes the sums over all pixels, the gradient in a bias */
export function conv2dFilterGrad(
  { tf, heap }: TensorHost,
  x: TensorInfo,
  { dy, y }: OutputGradient,
  { filterShape, ...attributes }: ConvAttributes & { readonly filterShape: number[] },
  dbias?: TensorInfo,
): TensorInfo | undefined {
  const shape = geometry(tf, heap, x.shape, filterShape, attributes);
  if (!shape) return undefined;
  assert.equal(sizeOf(dy.shape), sizeOf(shape.outShape), "dy fits the convolution");
  const out = heap.output(filterShape);
  const scratch = heap.scratch(shape.scratchFloats);
  const inputs = [heap.at(x), heap.at(dy), y ? heap.at(y) : 0] as const;
  const tail = [shape.outChannels, heap.at(out), dbias ? heap.at(dbias) : 0, scratch] as const;
  heap.kernels.conv2dFilterGrad(...inputs, ...shape.window, ...tail);
  return out;
}

export function conv2dInputGrad(
  { tf, heap }: TensorHost,
  { dy, y }: OutputGradient,
  filter: TensorInfo,
  { inputShape, ...attributes }: ConvAttributes & { readonly inputShape: number[] },
): TensorInfo | undefined {
  const shape = geometry(tf, heap, inputShape, filter.shape, attributes);
  if (!shape) return undefined;
  assert.equal(sizeOf(dy.shape), sizeOf(shape.outShape), "dy fits the convolution");
  const out = heap.output(inputShape);
  const scratch = heap.scratch(shape.scratchFloats);
  const inputs = [heap.at(dy), y ? heap.at(y) : 0, heap.at(filter)] as const;
  heap.kernels.conv2dInputGrad(...inputs, ...shape.window, shape.outChannels, heap.at(out), scratch);
  return out;
}

export function registerConvolution(host: KernelHost): void {
  const { override } = host;

  override<ConvAttributes>("Conv2D", (inputs, attributes) => {
    const x = ask(inputs, "x");
    const filter = ask(inputs, "filter");
    return x && filter ? conv2d(host, x, filter, attributes) : undefined;
  });

  override<ConvAttributes & { readonly activation?: string }>("FusedConv2D", (inputs, attributes) => {
    const x = ask(inputs, "x");
    const filter = ask(inputs, "filter");
    const { bias, preluActivationWeights } = inputs;
    if (!x || !filter || preluActivationWeights || !isFusable(attributes.activation)) return undefined;
    if (!isColumnBias(bias, filter.shape[3] ?? 0)) return undefined;
    return conv2d(host, x, filter, attributes, { bias, relu: attributes.activation === "relu" });
  });

  override<ConvAttributes & { readonly filterShape: number[] }>(
    "Conv2DBackpropFilter",
    (inputs, attributes) => {
      const x = ask(inputs, "x");
      const dy = ask(inputs, "dy");
      return x && dy ? conv2dFilterGrad(host, x, { dy }, attributes) : undefined;
    },
  );

  override<ConvAttributes & { readonly inputShape: number[] }>(
    "Conv2DBackpropInput",
    (inputs, attributes) => {
      const dy = ask(inputs, "dy");
      const filter = ask(inputs, "filter");
      return dy && filter ? conv2dInputGrad(host, { dy }, filter, attributes) : undefined;
    },
  );
}
