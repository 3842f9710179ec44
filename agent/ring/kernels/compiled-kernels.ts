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

/**
 * Kernels of our own, compiled once and at once: a few KB, so whoever needs them need not wait.
 * @returns opens a memory that never grows, so that views of it stay valid, with the kernels that work on it in place
 */
export function compileKernels<Kernels>(
  file: URL,
): (pageCount: number) => { readonly buffer: ArrayBuffer; readonly kernels: Kernels } {
  const compiled = new WebAssembly.Module(readFileSync(file));
  return (pageCount) => {
    const memory = new WebAssembly.Memory({ initial: pageCount, maximum: pageCount });
    const { exports } = new WebAssembly.Instance(compiled, { env: { memory } });
    return { buffer: memory.buffer, kernels: exports as Kernels };
  };
}
