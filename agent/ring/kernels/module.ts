import { compileKernels, type SharedMemory } from "./compiled-kernels.ts";

/** Byte offset into the ring's memory. */
type Pointer = number;
type Encode = (
  out: Pointer,
  x: Pointer,
  addend: Pointer,
  residual: Pointer,
  keep: 0 | 1,
  elementCount: number,
) => void;
type Decode = (x: Pointer, payload: Pointer, elementCount: number) => void;

/** What assembly/index.ts exports, and means. */
export interface RingKernels {
  readonly encodeF32: Encode;
  readonly encodeBf16: Encode;
  readonly encodeInt8: Encode;
  readonly decodeBf16: Decode;
  readonly decodeInt8: Decode;
  readonly copy: (out: Pointer, from: Pointer, bytes: number) => void;
  readonly allFinite: (x: Pointer, elementCount: number) => 0 | 1;
}

/** Kernels that work on a ring's memory in place. */
export const openKernels = compileKernels<RingKernels, SharedMemory>(
  new URL("kernels.wasm", import.meta.url),
);
