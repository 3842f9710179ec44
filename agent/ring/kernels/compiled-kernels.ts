import { readFileSync } from "node:fs";

/** A `WebAssembly.Memory`. */
export interface KernelMemory<Buffer extends ArrayBufferLike = ArrayBufferLike> {
  readonly buffer: Buffer;
}
/** One of which every thread may have a view: a message to a worker carries it without a copy. */
export type SharedMemory = KernelMemory<SharedArrayBuffer>;

/** The part of the global WebAssembly that we use: TypeScript declares it only along with the whole DOM. */
interface WebAssemblyGlobal {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: object) => { readonly exports: object };
  Memory: new (size: {
    readonly initial: number;
    readonly maximum: number;
    readonly shared?: true;
  }) => object;
}
const { WebAssembly } = globalThis as unknown as { readonly WebAssembly: WebAssemblyGlobal };

export const wasmPageBytes = 65_536;

/** Zeros that never grow, so that views of them stay valid. */
export const openMemory = (pageCount: number): KernelMemory<ArrayBuffer> =>
  new WebAssembly.Memory({ initial: pageCount, maximum: pageCount }) as KernelMemory<ArrayBuffer>;

/** The same, for several threads. */
export const openSharedMemory = (pageCount: number): SharedMemory =>
  new WebAssembly.Memory({ initial: pageCount, maximum: pageCount, shared: true }) as SharedMemory;

/**
 * Kernels of our own, compiled once and at once: a few KB, so whoever needs them need not wait.
 * @returns gives the kernels that work on a memory in place; whether that may be shared, their build says
 */
export function compileKernels<Kernels, Memory extends KernelMemory>(file: URL): (memory: Memory) => Kernels {
  const compiled = new WebAssembly.Module(readFileSync(file));
  return (memory) => {
    const { exports } = new WebAssembly.Instance(compiled, { env: { memory } });
    return exports as Kernels;
  };
}
