import type { ModelSpec } from "../../protocol/job-spec.ts";
import { denseLayers } from "./cnn.ts";
import type { LayerJson } from "./topology.ts";

type MlpSpec = Extract<ModelSpec, { architecture: "mlp" }>;

/** Dense ReLU layers over the flattened example, dense softmax. */
export function mlpLayers(spec: MlpSpec, inputShape: readonly number[], classCount: number): LayerJson[] {
  const flatten: LayerJson[] =
    inputShape.length === 1 ? [] : [{ class_name: "Flatten", config: { name: "flatten_1" } }];
  return [...flatten, ...denseLayers(spec.hidden, classCount)];
}
