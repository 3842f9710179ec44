import util from "node:util";
import { composedRuntime } from "./composed.ts";
import { firstLine, importOptional } from "./optional-package.ts";
import type { Runtime } from "./runtime.ts";

/** The one with CUDA first. Both are optional dependencies: their install fetches libtensorflow, and may fail. */
const packages = ["@tensorflow/tfjs-node-gpu", "@tensorflow/tfjs-node"];

/** libtensorflow through tfjs-node: the fastest engine where it installs. */
export async function openTensorflow(): Promise<Runtime> {
  // tfjs-node 4.22 calls this function, which Node 23 removed.
  (util as { isNullOrUndefined?: (value: unknown) => boolean }).isNullOrUndefined ??= (value) =>
    value === null || value === undefined;
  const tf = await import("@tensorflow/tfjs");
  tf.enableProdMode();
  const reasons: string[] = [];
  for (const name of packages) {
    try {
      await importOptional(name);
      if (!(await tf.setBackend("tensorflow"))) throw new Error(`${name} registered no backend`);
    } catch (cause) {
      reasons.push(firstLine(cause));
      continue;
    }
    const { isUsingGpuDevice } = tf.backend() as { isUsingGpuDevice?: boolean };
    return composedRuntime(tf, {
      name: "tensorflow",
      gpu: isUsingGpuDevice ? "CUDA device of TensorFlow" : null,
      detail: `libtensorflow of ${name}, on ${isUsingGpuDevice ? "a CUDA GPU" : "the CPU"}`,
    });
  }
  throw new Error(reasons.join("; "));
}
