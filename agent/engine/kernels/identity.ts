import type { DataType } from "@tensorflow/tfjs";
import type { KernelHost } from "./override.ts";

/** Identity, and Cast to the same type, by reference: TF.js's wasm backend copies the data. */
export function registerIdentity({ heap, override }: KernelHost): void {
  override("Identity", ({ x }) => (x && x.dtype !== "string" ? heap.share(x) : undefined));
  override<{ readonly dtype: DataType }>("Cast", ({ x }, { dtype }) =>
    x && x.dtype !== "string" && x.dtype === dtype ? heap.share(x) : undefined,
  );
}
