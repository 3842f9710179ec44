import { readFile } from "node:fs/promises";
import { setFlagsFromString } from "node:v8";
import type { KernelExports, Memory } from "./module.ts";

/**
 * `simd`: 128-bit lanes. `relaxed`: with fused multiply-add. `wide`: the same bits, in tiles twice as wide, for a V8 that
 * compiles pairs of lanes to 256-bit registers.
 */
export type KernelBuild = "wide" | "relaxed" | "simd";

/** The part of the global WebAssembly that we use: TypeScript declares it only along with the whole DOM. */
interface WebAssemblyGlobal {
  validate(bytes: Uint8Array): boolean;
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object, imports: object) => { readonly exports: object };
  Memory: new (size: { readonly initial: number }) => { readonly buffer: ArrayBuffer };
}
const { WebAssembly } = globalThis as unknown as { readonly WebAssembly: WebAssemblyGlobal };

// (module (func (result v128) (f32x4.relaxed_madd (v128.const 0) (v128.const 0) (v128.const 0))))
const zeros = [0xfd, 0x0c, ...new Array<number>(16).fill(0)];
const header = [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 5, 1, 0x60, 0, 1, 0x7b, 3, 2, 1, 0, 10, 61, 1, 59, 0];
const relaxedProbe = new Uint8Array([...header, ...zeros, ...zeros, ...zeros, 0xfd, 0x85, 0x02, 0x0b]);

/** Instantiates a build on `memory`, which stays its owner's: the module keeps nothing in it. */
export async function loadKernels(build: KernelBuild, memory: Memory): Promise<KernelExports> {
  return instantiate(await compile(build), memory);
}

/** Cost: 0.1 s for the compiler, and a millisecond to see which build is the faster one. */
export async function loadBestKernels(
  memory: Memory,
): Promise<{ readonly build: KernelBuild; readonly kernels: KernelExports }> {
  if (!WebAssembly.validate(relaxedProbe))
    return { build: "simd", kernels: await loadKernels("simd", memory) };
  const [relaxed, wide] = [await compile("relaxed"), await compile("wide")];
  const build = isBetter(wide, relaxed) ? "wide" : "relaxed";
  return { build, kernels: instantiate(build === "wide" ? wide : relaxed, memory) };
}

const instantiate = (module: object, memory: Memory): KernelExports =>
  new WebAssembly.Instance(module, { env: { memory } }).exports as KernelExports;

/** Whether this V8 has the pass that fuses pairs of 128-bit operations. An unknown flag would be a line on stderr. */
const { variables } = process.config as { readonly variables: Readonly<Record<string, unknown>> };
const canFuse = process.arch === "x64" && variables.v8_enable_wasm_simd256_revec === 1;

/**
 * V8 can fuse adjacent 128-bit operations into AVX2's of 256 bits, which is off by default. It is asked to while it compiles
 * this module and no other, all of it at once and with the optimizing compiler, as later tiers would no longer be asked.
 * Source: v8/src/compiler/turboshaft/wasm-revec-reducer.h.
 */
const wideFlags = canFuse ? ["experimental-wasm-revectorize"] : [];
const atOnceFlags = ["no-liftoff", "no-wasm-lazy-compilation"];
const opposite = (flag: string): string => (flag.startsWith("no-") ? flag.slice(3) : `no-${flag}`);

async function compile(build: KernelBuild): Promise<object> {
  const bytes = await readFile(new URL(`kernels-${build}.wasm`, import.meta.url));
  const flags = build === "wide" ? [...atOnceFlags, ...wideFlags] : atOnceFlags;
  for (const flag of flags) setFlagsFromString(`--${flag}`);
  try {
    return new WebAssembly.Module(bytes);
  } finally {
    for (const flag of flags) setFlagsFromString(`--${opposite(flag)}`);
  }
}

const probe = { rows: 32, columns: 64, depth: 256, runs: 24 } as const;
/** What the wide build must gain to be taken: where V8 leaves its lanes as they are it loses, so nothing lies between. */
const gainMin = 1.1;

/** Whether a product comes out with the same bits and in less time: the processor may lack AVX2. */
function isBetter(wide: object, relaxed: object): boolean {
  const { rows, columns, depth, runs } = probe;
  const contenders = [wide, relaxed].map((module) => {
    const memory = new WebAssembly.Memory({ initial: 16 });
    const floats = new Float32Array(memory.buffer);
    const [a, b] = [rows * depth, columns * depth];
    for (let i = 0; i < a + b; i++) floats[i] = Math.sin(i);
    const kernels = instantiate(module, memory);
    const pointers = { b: 4 * a, c: 4 * (a + b), scratch: 4 * (a + b + rows * columns) };
    return {
      product: floats.subarray(a + b, a + b + rows * columns),
      run: () =>
        kernels.gemm(
          ...([rows, columns, depth, 0, depth, 1, pointers.b, columns, 1] as const),
          ...([pointers.c, columns, 0, 0, pointers.scratch] as const),
        ),
      bestMs: Number.POSITIVE_INFINITY,
    };
  });
  for (let run = 0; run < runs; run++) {
    for (const contender of contenders) {
      const startMs = performance.now();
      contender.run();
      contender.bestMs = Math.min(contender.bestMs, performance.now() - startMs);
    }
  }
  const [one, other] = contenders as [(typeof contenders)[0], (typeof contenders)[0]];
  const isSame = one.product.every((each, i) => each === other.product[i]);
  return isSame && gainMin * one.bestMs < other.bestMs;
}
