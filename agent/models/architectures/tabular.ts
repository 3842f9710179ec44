import type { ExampleShape } from "../../../protocol/data-schema.ts";
import type { ModelSpec } from "../../../protocol/job-spec.ts";
import { endingLayer } from "../ending.ts";
import { cardinalityOf } from "./categories.ts";
import { Wiring } from "./wiring.ts";

type TabularSpec = Extract<ModelSpec, { architecture: "tabular" }>;

/**
 * Dense ReLU layers over the numbers of a table and learned vectors of its categories.
 * Source: Guo & Berkhahn, "Entity embeddings of categorical variables", 2016.
 */
export function tabularTopology(spec: TabularSpec, shape: ExampleShape): Record<string, unknown> {
  const wiring = new Wiring();
  const features = shape.features ?? [
    { name: "input", shape: [...shape.inputShape], kind: "number" as const },
  ];
  const columns = features.map((feature) => {
    const input = wiring.input(feature);
    const flat = (taken: string) => wiring.layer("Flatten", `${feature.name}_flat`, {}, taken);
    if (feature.kind === "number") return feature.shape.length > 1 ? flat(input) : input;
    const input_dim = cardinalityOf(feature);
    const output_dim = Math.min(spec.embeddingWidth, Math.ceil(input_dim / 2));
    const embedding = { input_dim, output_dim };
    return flat(wiring.layer("Embedding", `${feature.name}_embedding`, embedding, input));
  });
  let last =
    columns.length === 1 ? columns[0]! : wiring.layer("Concatenate", "columns", { axis: -1 }, ...columns);
  for (const [i, units] of spec.hidden.entries()) {
    last = wiring.layer("Dense", `dense_${i + 1}`, { units, activation: "relu" }, last);
  }
  const answer = endingLayer("answer", shape.target);
  return wiring.topology("tabular", wiring.layer(answer.class_name, "answer", answer.config, last));
}
