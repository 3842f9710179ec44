import type { ExampleShape } from "../../../protocol/data-schema.ts";
import type { ModelSpec } from "../../../protocol/job-spec.ts";
import { endingLayer } from "../ending.ts";
import { cardinalityOf, tokenFeatures } from "./categories.ts";
import { crossAttention, embedded, feedForward, selfAttention } from "./transformer.ts";
import { Wiring } from "./wiring.ts";

type EncoderDecoderSpec = Extract<ModelSpec, { architecture: "encoder-decoder" }>;

/**
 * A Transformer that reads one sequence and writes another: the data's first tokens are the source, its second the target so
 * far. Token 0 is padding in both. Source: Vaswani et al., "Attention is all you need", 2017.
 */
export function encoderDecoderTopology(
  spec: EncoderDecoderSpec,
  shape: ExampleShape,
): Record<string, unknown> {
  const [source, written] = tokenFeatures(spec.architecture, shape, 2);
  const wiring = new Wiring();
  const start = (name: string, feature: NonNullable<typeof source>) =>
    embedded(wiring, name, wiring.input(feature), {
      ...{ width: spec.width, dropout: spec.dropout, masked: true },
      ...{ count: cardinalityOf(feature), places: feature.shape[0]! },
    });
  let read = start("source", source!);
  for (let i = 1; i <= spec.layers; i++) {
    read = selfAttention(wiring, `encoder_${i}_attention`, read, spec, false);
    read = feedForward(wiring, `encoder_${i}_dense`, read, spec);
  }
  read = wiring.layer("LayerNormalization", "encoder_norm", { epsilon: 1e-5 }, read);
  let last = start("target", written!);
  for (let i = 1; i <= spec.layers; i++) {
    last = selfAttention(wiring, `decoder_${i}_attention`, last, spec, true);
    last = crossAttention(wiring, `decoder_${i}_source`, last, read, spec);
    last = feedForward(wiring, `decoder_${i}_dense`, last, spec);
  }
  last = wiring.layer("LayerNormalization", "decoder_norm", { epsilon: 1e-5 }, last);
  const answer = endingLayer("answer", shape.target);
  return wiring.topology("encoder_decoder", wiring.layer(answer.class_name, "answer", answer.config, last));
}
