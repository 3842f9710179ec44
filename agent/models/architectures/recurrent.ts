import type { ExampleShape } from "../../../protocol/data-schema.ts";
import type { ModelSpec } from "../../../protocol/job-spec.ts";
import { endingLayer } from "../ending.ts";
import { cardinalityOf, tokenFeatures } from "./categories.ts";
import { Wiring } from "./wiring.ts";

type RecurrentSpec = Extract<ModelSpec, { architecture: "recurrent" }>;

/** Vectors of tokens, LSTM or GRU layers along the text, and the answer from where they end. Token 0 is padding. */
export function recurrentTopology(spec: RecurrentSpec, shape: ExampleShape): Record<string, unknown> {
  const [tokens] = tokenFeatures(spec.architecture, shape, 1);
  const wiring = new Wiring();
  const table = { input_dim: cardinalityOf(tokens!), output_dim: spec.embeddingWidth, mask_zero: true };
  let last = wiring.layer("Embedding", "tokens", table, wiring.input(tokens!));
  const cell = spec.cell === "lstm" ? "LSTM" : "GRU";
  for (const [i, units] of spec.units.entries()) {
    const return_sequences = i < spec.units.length - 1;
    const name = `${spec.cell}_${i + 1}`;
    const config = { units, return_sequences, recurrent_activation: "sigmoid" };
    last = spec.bidirectional
      ? wiring.layer(
          "Bidirectional",
          name,
          { layer: { class_name: cell, config: { name, ...config } } },
          last,
        )
      : wiring.layer(cell, name, config, last);
  }
  if (spec.dropout > 0) last = wiring.layer("Dropout", "dropout", { rate: spec.dropout }, last);
  const answer = endingLayer("answer", shape.target);
  return wiring.topology("recurrent", wiring.layer(answer.class_name, "answer", answer.config, last));
}
