import { composedRuntime } from "./composed.ts";
import { importOptional } from "./optional-package.ts";
import type { Runtime } from "./runtime.ts";

interface Adapter {
  readonly isFallbackAdapter?: boolean;
  readonly info: {
    readonly vendor?: string;
    readonly architecture?: string;
    readonly device?: string;
    readonly description?: string;
    readonly isFallbackAdapter?: boolean;
  };
}
interface Gpu {
  requestAdapter(options: { powerPreference: "high-performance" }): Promise<Adapter | null>;
}
/** npm `webgpu`: Dawn for Node, an optional package of 132 MB. */
interface Dawn {
  readonly globals: object;
  create(flags: readonly string[]): Gpu;
}

/**
 * Any GPU with a Vulkan, Metal or Direct3D driver, through Dawn.
 *
 * @param allowSoftware takes an adapter that computes on the CPU; for tests, as wasm is far faster
 */
export async function openWebgpu({ allowSoftware }: { readonly allowSoftware: boolean }): Promise<Runtime> {
  const dawn = await importOptional<Dawn>("webgpu");
  const gpu = dawn.create([]);
  const adapter = await gpu.requestAdapter({ powerPreference: "high-performance" });
  if (!adapter) throw new Error("no WebGPU adapter: a GPU driver is needed, and on Linux libvulkan1");
  const name = adapterName(adapter);
  const isSoftware = adapter.info.isFallbackAdapter ?? adapter.isFallbackAdapter ?? false;
  if (isSoftware && !allowSoftware) {
    throw new Error(`${name} is no GPU but software; ask for webgpu by name to use it`);
  }
  // TF.js looks for WebGPU where a browser has it.
  Object.assign(globalThis, dawn.globals);
  Object.defineProperty(navigator, "gpu", { value: gpu, configurable: true });
  const tf = await import("@tensorflow/tfjs");
  tf.enableProdMode();
  await importOptional("@tensorflow/tfjs-backend-webgpu");
  if (!(await tf.setBackend("webgpu")))
    throw new Error(`the webgpu backend of TF.js did not start on ${name}`);
  return composedRuntime(tf, {
    name: "webgpu",
    gpu: isSoftware ? null : name,
    detail: `WebGPU on ${name}`,
  });
}

function adapterName({ info }: Adapter): string {
  if (info.description) return info.description;
  return [info.vendor, info.architecture, info.device].filter(Boolean).join(" ") || "an unnamed adapter";
}
