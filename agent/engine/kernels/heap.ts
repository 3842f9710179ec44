import assert from "node:assert/strict";
import type { DataType, Tensor, TensorInfo } from "@tensorflow/tfjs";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { KernelExports, Memory } from "./module.ts";

/**
 * The part of the wasm backend of TF.js 4.22 that our kernels stand on. `wasm` is internal to TF.js, so the package is
 * pinned to 4.22.0, and `openHeap` checks what it relies on.
 */
export interface WasmBackend {
  readonly wasm: {
    readonly asm: { readonly memory: Memory & { readonly buffer: ArrayBufferLike } };
    _malloc(bytes: number): number;
    _free(pointer: number): void;
  };
  readonly dataIdMap: { get(dataId: object): { readonly memoryOffset: number | null } };
  makeOutput(shape: number[], dtype: DataType): TensorInfo;
  incRef(dataId: object): void;
  typedArrayFromHeap(tensor: TensorInfo): Float32Array | Int32Array | Uint8Array;
}

export const sizeOf = (shape: readonly number[]): number =>
  shape.reduce((product, length) => product * length, 1);

/** Tensors of the wasm backend as pointers, and one scratch area for all kernels. */
export interface Heap {
  readonly kernels: KernelExports;
  /** Byte offset of a tensor that is not empty. */
  at(tensor: TensorInfo): number;
  /** A new tensor, contents undefined. */
  output(shape: readonly number[], dtype?: DataType): TensorInfo;
  /**
   * Memory of so many floats that only the gradient of a kernel reads, behind a tensor of one element: TF.js makes zeros for every
   * output of a kernel that has no gradient, of the shape that it shows.
   */
  kept(floats: number): TensorInfo;
  /** A second reference to the data of a tensor, without a copy. */
  share(tensor: TensorInfo): TensorInfo;
  /** A view that is good until the heap grows: use it before the next allocation. */
  view(tensor: Tensor | TensorInfo): Float32Array;
  /** Byte offset of at least so many floats; contents are lost at the next call of any kernel. */
  scratch(floats: number): number;
}

/** The largest scratch area that a kernel may ask for: 256 MiB. Odd shapes beyond it take TF.js's own kernel. */
export const scratchFloatsMax = 1 << 26;

/** WebAssembly has addresses of 32 bits. */
const heapBytesMax = 2 ** 32;

/**
 * A full heap becomes an error. Without this malloc answers 0, and TF.js writes there, over itself; or it answers with a block
 * that ends beyond the memory, where its arithmetic in 32 bits has overflowed (seen with 2.1 GB on the heap and 2.2 GB asked for); and of
 * more than 4 GiB it takes what is left of the number.
 */
export function refuseWhenFull({ wasm }: Pick<WasmBackend, "wasm">): void {
  wasm._free(wasm._malloc(1)); // Emscripten puts the function itself in its place at the first call
  const allocate = wasm._malloc;
  wasm._malloc = (bytes) => {
    const pointer = bytes < heapBytesMax ? allocate(bytes) : 0;
    const end = (pointer >>> 0) + bytes;
    if (pointer !== 0 && end <= wasm.asm.memory.buffer.byteLength) return pointer;
    if (pointer !== 0) wasm._free(pointer);
    const message = `the wasm engine has no room for another ${(bytes / 1e6).toFixed(1)} MB: it has a heap of ${(heapBytesMax / 1e9).toFixed(1)} GB, or less where the machine has no more`;
    throw new RingfoldError("MODEL_TOO_LARGE", message, { neededBytes: bytes });
  };
}

export function openHeap(backend: WasmBackend, kernels: KernelExports): Heap {
  let scratchPointer = 0;
  let scratchFloats = 0; // grows to the largest request, then stays
  return {
    kernels,
    at(tensor) {
      const offset = backend.dataIdMap.get(tensor.dataId).memoryOffset;
      assert(offset, "the tensor is on the heap");
      return offset >>> 0;
    },
    output: (shape, dtype = "float32") => backend.makeOutput([...shape], dtype),
    kept: (floats) => ({
      dataId: backend.makeOutput([floats], "float32").dataId,
      shape: [1],
      dtype: "float32",
    }),
    share(tensor) {
      backend.incRef(tensor.dataId);
      return { dataId: tensor.dataId, shape: tensor.shape, dtype: tensor.dtype };
    },
    view: (tensor) => backend.typedArrayFromHeap(tensor) as Float32Array,
    scratch(floats) {
      assert(floats <= scratchFloatsMax);
      if (floats > scratchFloats) {
        if (scratchPointer) backend.wasm._free(scratchPointer);
        [scratchPointer, scratchFloats] = [0, 0]; // and so it stays where the heap is full
        scratchPointer = backend.wasm._malloc(4 * floats) >>> 0;
        scratchFloats = floats;
      }
      return scratchPointer;
    },
  };
}
