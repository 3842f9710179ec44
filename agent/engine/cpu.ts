import { composedRuntime } from "./composed.ts";
import type { Runtime } from "./runtime.ts";

/** Plain JavaScript: slow, needs nothing, and the reference that the other engines are compared with. */
export async function openCpu(): Promise<Runtime> {
  const tf = await import("@tensorflow/tfjs");
  // Without this the backend advertises tfjs-node on the console, and checks every value for NaN.
  tf.enableProdMode();
  if (!(await tf.setBackend("cpu"))) throw new Error("the cpu backend of TF.js did not start");
  const about = { name: "cpu", gpu: null, detail: "plain JavaScript" } as const;
  return {
    ...composedRuntime(tf, about),
    readNow: (tensor, into) => into.set(tensor.dataSync<"float32">()),
  };
}
