import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { dirname } from "node:path";
import { registerActivations } from "./kernels/activation.ts";
import { type KernelBuild, loadBestKernels, loadKernels } from "./kernels/build.ts";
import { registerConvolution } from "./kernels/convolution.ts";
import { registerDepthwise } from "./kernels/depthwise.ts";
import { fusedOperations } from "./kernels/fused/operations.ts";
import { registerGather } from "./kernels/gather.ts";
import { type Heap, openHeap, refuseWhenFull, type WasmBackend } from "./kernels/heap.ts";
import { registerIdentity } from "./kernels/identity.ts";
import { registerMatMul } from "./kernels/matmul.ts";
import { kernelHost } from "./kernels/override.ts";
import { registerPooling } from "./kernels/pooling.ts";
import { registerReductions } from "./kernels/reductions.ts";
import { activator, type Operations, type Runtime, type Tf } from "./runtime.ts";

/** Our kernels use internals of this release; the package is pinned to it. */
const testedRelease = "4.22.0";

interface Installation {
  readonly build: KernelBuild;
  readonly heap: Heap;
  readonly operations: Operations;
  readonly detail: string;
}
/** Kernels register once a process, whoever asks first: TF.js keeps them, and the heap, for as long as it lives. */
let installation: Promise<Installation> | undefined;

/**
 * WebAssembly: TF.js's backend with training kernels of our own on its heap. One thread; one process a core.
 *
 * @param build of the kernels; the best one that this JavaScript engine can run unless told
 */
export async function openWasm({ build }: { readonly build?: KernelBuild } = {}): Promise<Runtime> {
  const tf = await import("@tensorflow/tfjs");
  installation ??= install(tf, build);
  const { heap, operations, detail, build: installed } = await installation;
  assert(build === undefined || build === installed, "one build of the kernels a process");
  return {
    name: "wasm",
    tf,
    gpu: null,
    detail,
    operations,
    activate: activator(tf, "wasm"),
    write: (variable, values) => {
      // A new tensor, not new numbers in the old one: XNNPACK inside TF.js keeps packed weights by tensor, and would go
      // on with the old ones (seen with DepthwiseConv2D). This backend copies `values` at once.
      const fresh = tf.tensor(values, variable.shape);
      variable.assign(fresh);
      fresh.dispose();
    },
    readNow: (tensor, into) => into.set(heap.view(tensor)),
    read: async (parts) => {
      for (const { tensor, into } of parts) into.set(heap.view(tensor));
    },
  };
}

const buildNames: Readonly<Record<KernelBuild, string>> = {
  wide: "relaxed SIMD, 256 bits at a time",
  relaxed: "relaxed SIMD",
  simd: "plain SIMD",
};

async function install(tf: Tf, asked: KernelBuild | undefined): Promise<Installation> {
  const { setWasmPaths, version_wasm } = await import("@tensorflow/tfjs-backend-wasm");
  if (version_wasm !== testedRelease) {
    throw new Error(`@tensorflow/tfjs-backend-wasm is ${version_wasm}, and this needs ${testedRelease}`);
  }
  tf.enableProdMode();
  // Threads gain nothing for training, and their workers keep a process alive.
  tf.env().set("WASM_HAS_MULTITHREAD_SUPPORT", false);
  // In Node the binaries are read as files; the folder of the package's main file holds them.
  setWasmPaths(`${dirname(createRequire(import.meta.url).resolve("@tensorflow/tfjs-backend-wasm"))}/`);
  if (!(await tf.setBackend("wasm"))) throw new Error("the wasm backend of TF.js did not start");
  const backend = tf.findBackend("wasm") as unknown as WasmBackend;
  refuseWhenFull(backend);
  const { memory } = backend.wasm.asm;
  const { build, kernels } = asked
    ? { build: asked, kernels: await loadKernels(asked, memory) }
    : await loadBestKernels(memory);
  const heap = openHeap(backend, kernels);
  const host = kernelHost(tf, heap);
  registerIdentity(host);
  registerMatMul(host);
  registerConvolution(host);
  registerDepthwise(host);
  registerPooling(host);
  registerReductions(host);
  registerActivations(host);
  registerGather(host);
  const detail = `WebAssembly with ${buildNames[build]}, one thread`;
  return { build, heap, operations: fusedOperations(host), detail };
}
