import util from "node:util";
import { composedRuntime } from "./composed.ts";
import { firstLine, importOptional } from "./optional-package.ts";
import type { Runtime } from "./runtime.ts";

/** Both are optional dependencies: their install fetches libtensorflow, and may fail. */
const withCuda = "@tensorflow/tfjs-node-gpu";
const withoutCuda = "@tensorflow/tfjs-node";

/**
 * libtensorflow through tfjs-node.
 * @param of.allowCpu else only with a GPU: on the CPU the wasm engine with our kernels is faster (docs/engines.md)
 */
export async function openTensorflow(of: { readonly allowCpu: boolean }): Promise<Runtime> {
  // tfjs-node 4.22 calls these functions: Node 23 removed the first, and warns of the second.
  const old = util as {
    isNullOrUndefined?: (value: unknown) => boolean;
    isArray?: (value: unknown) => boolean;
  };
  old.isNullOrUndefined ??= (value) => value === null || value === undefined;
  old.isArray = Array.isArray;
  const tf = await import("@tensorflow/tfjs");
  tf.enableProdMode();
  const reasons: string[] = [];
  for (const name of of.allowCpu ? [withCuda, withoutCuda] : [withCuda]) {
    try {
      await importOptional(name);
      if (!(await tf.setBackend("tensorflow"))) throw new Error(`${name} registered no backend`);
    } catch (cause) {
      reasons.push(firstLine(cause));
      continue;
    }
    const { isUsingGpuDevice } = tf.backend() as { isUsingGpuDevice?: boolean };
    if (!isUsingGpuDevice && !of.allowCpu) {
      reasons.push(`${name} finds no CUDA GPU, and on the CPU wasm is faster`);
      continue;
    }
    return composedRuntime(tf, {
      name: "tensorflow",
      gpu: isUsingGpuDevice ? "CUDA device of TensorFlow" : null,
      detail: `libtensorflow of ${name}, on ${isUsingGpuDevice ? "a CUDA GPU" : "the CPU"}`,
    });
  }
  throw new Error(reasons.join("; "));
}
