import type { Wire } from "../../protocol/job-spec.ts";
import type { RingKernels } from "./kernels/module.ts";

/** How elements travel. The kernels (kernels/assembly) define the arithmetic; this is the layout. */
export interface WireFormat {
  readonly name: Wire;
  /** Stands in every segment, so that ranks that disagree about the wire never sum. */
  readonly code: number;
  readonly lossy: boolean;
  payloadBytes(elementCount: number): number;
  /** The most elements whose payload is at most `bytes`, and at least 1. */
  elementsIn(bytes: number): number;
  encode(kernels: RingKernels): RingKernels["encodeF32"];
  /** Absent for f32, whose payload is copied. */
  decode(kernels: RingKernels): RingKernels["decodeBf16"] | undefined;
}

/** In the place of a wire's code: the segments of an all-gather are bytes, and nobody sums them. */
export const gatherWireCode = 255;
/** Likewise, for whole vectors of f32 (doubling.ts): other rounds than a ring's. */
export const doublingWireCode = 254;

const blockElements = 256;
const blockBytes = blockElements + 4;

const f32: WireFormat = {
  name: "f32",
  code: 0,
  lossy: false,
  payloadBytes: (elementCount) => 4 * elementCount,
  elementsIn: (bytes) => Math.max(1, Math.floor(bytes / 4)),
  encode: ({ encodeF32 }) => encodeF32,
  decode: () => undefined,
};

/** The upper half of an f32. */
const bf16: WireFormat = {
  name: "bf16",
  code: 1,
  lossy: true,
  payloadBytes: (elementCount) => 2 * elementCount,
  elementsIn: (bytes) => Math.max(1, Math.floor(bytes / 2)),
  encode: ({ encodeBf16 }) => encodeBf16,
  decode: ({ decodeBf16 }) => decodeBf16,
};

/** One byte an element and one f32 scale a block of 256, scales first. */
const int8: WireFormat = {
  name: "int8",
  code: 2,
  lossy: true,
  payloadBytes: (elementCount) => elementCount + 4 * Math.ceil(elementCount / blockElements),
  elementsIn: (bytes) =>
    Math.max(1, Math.floor(bytes / blockBytes) * blockElements + Math.max(0, (bytes % blockBytes) - 4)),
  encode: ({ encodeInt8 }) => encodeInt8,
  decode: ({ decodeInt8 }) => decodeInt8,
};

export const wireFormats: Readonly<Record<Wire, WireFormat>> = { f32, bf16, int8 };
