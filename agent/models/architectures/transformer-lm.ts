import type { ExampleShape } from "../../../protocol/data-schema.ts";
import type { ModelSpec } from "../../../protocol/job-spec.ts";
import { endingLayer } from "../ending.ts";
import { cardinalityOf, tokenFeatures } from "./categories.ts";
import { embedded, feedForward, selfAttention } from "./transformer.ts";
import { Wiring } from "./wiring.ts";

type TransformerLmSpec = Extract<ModelSpec, { architecture: "transformer-lm" }>;

/**
 * A decoder-only Transformer: at each place of a text the chances of the next token.
 * Source: Radford et al., "Language models are unsupervised multitask learners", 2019 (GPT-2).
 */
export function transformerLmTopology(spec: TransformerLmSpec, shape: ExampleShape): Record<string, unknown> {
  const [tokens] = tokenFeatures(spec.architecture, shape, 1);
  const wiring = new Wiring();
  const count = cardinalityOf(tokens!);
  const places = tokens!.shape[0]!;
  let last = embedded(wiring, "text", wiring.input(tokens!), { ...spec, count, places, masked: false });
  for (let i = 1; i <= spec.layers; i++) {
    last = selfAttention(wiring, `block_${i}_attention`, last, spec, true);
    last = feedForward(wiring, `block_${i}_dense`, last, spec);
  }
  last = wiring.layer("LayerNormalization", "norm", { epsilon: 1e-5 }, last);
  const answer = endingLayer("answer", shape.target);
  return wiring.topology("transformer_lm", wiring.layer(answer.class_name, "answer", answer.config, last));
}
