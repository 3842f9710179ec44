import type { ExampleShape } from "../../../protocol/data-schema.ts";
import type { ModelSpec } from "../../../protocol/job-spec.ts";
import type { LayerJson } from "../graph.ts";
import { denseLayers } from "./cnn.ts";

type MlpSpec = Extract<ModelSpec, { architecture: "mlp" }>;

/** Dense ReLU layers over the flattened example, then the answer. */
export function mlpLayers(spec: MlpSpec, { inputShape, target }: ExampleShape): LayerJson[] {
  const flatten: LayerJson[] =
    inputShape.length === 1 ? [] : [{ class_name: "Flatten", config: { name: "flatten_1" } }];
  return [...flatten, ...denseLayers(spec.hidden, target)];
}
