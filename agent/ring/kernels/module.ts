import { readFileSync } from "node:fs";

/** The part of the global WebAssembly that we use: TypeScript declares it only along with the whole DOM. */
interface WebAssemblyGlobal {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: object) => { readonly exports: object };
  Memory: new (size: {
    readonly initial: number;
    readonly maximum: number;
  }) => { readonly buffer: ArrayBuffer };
}
const { WebAssembly } = globalThis as unknown as { readonly WebAssembly: WebAssemblyGlobal };

export const wasmPageBytes = 65_536;

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
}

// 2 KB, compiled once and at once: whoever makes a ring need not wait for it.
const compiled = new WebAssembly.Module(readFileSync(new URL("kernels.wasm", import.meta.url)));

/** A memory that never grows, so that views of it stay valid, with kernels that work on it in place. */
export function openKernels(pageCount: number): {
  readonly buffer: ArrayBuffer;
  readonly kernels: RingKernels;
} {
  const memory = new WebAssembly.Memory({ initial: pageCount, maximum: pageCount });
  const { exports } = new WebAssembly.Instance(compiled, { env: { memory } });
  return { buffer: memory.buffer, kernels: exports as unknown as RingKernels };
}
