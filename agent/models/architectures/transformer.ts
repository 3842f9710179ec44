import type { Wiring } from "./wiring.ts";

/** Parts that Transformers are put together from. Layers are normalised first, as in GPT-2: deep ones train without warm-up. */

export interface BlockSpec {
  readonly width: number;
  readonly heads: number;
  readonly dropout: number;
}

const normal = { class_name: "RandomNormal", config: { mean: 0, stddev: 0.02 } };

/** Vectors of tokens plus vectors of their places. */
export function embedded(
  wiring: Wiring,
  name: string,
  tokens: string,
  {
    width,
    dropout,
    count,
    places,
    masked,
  }: {
    readonly width: number;
    readonly dropout: number;
    readonly count: number;
    readonly places: number;
    readonly masked: boolean;
  },
): string {
  const table = { input_dim: count, output_dim: width, mask_zero: masked, embeddings_initializer: normal };
  const vectors = wiring.layer("Embedding", `${name}_tokens`, table, tokens);
  const positions = wiring.layer("PositionEmbedding", `${name}_places`, { sequence_length: places }, vectors);
  const sum = wiring.layer("Add", `${name}_embedded`, {}, vectors, positions);
  return dropped(wiring, `${name}_embedded_dropout`, dropout, sum);
}

/** Attention to the same sequence, added to what came in. */
export function selfAttention(
  wiring: Wiring,
  name: string,
  from: string,
  block: BlockSpec,
  causal: boolean,
): string {
  const normed = wiring.layer("LayerNormalization", `${name}_norm`, { epsilon: 1e-5 }, from);
  return attended(wiring, name, { from, query: normed, value: normed, causal }, block);
}

/** Attention to another sequence, added to what came in. */
export function crossAttention(
  wiring: Wiring,
  name: string,
  from: string,
  to: string,
  block: BlockSpec,
): string {
  const query = wiring.layer("LayerNormalization", `${name}_norm`, { epsilon: 1e-5 }, from);
  return attended(wiring, name, { from, query, value: to, causal: false }, block);
}

function attended(
  wiring: Wiring,
  name: string,
  of: { readonly from: string; readonly query: string; readonly value: string; readonly causal: boolean },
  { width, heads, dropout }: BlockSpec,
): string {
  const config = { num_heads: heads, key_dim: width / heads };
  const answer = wiring.attention(name, config, of);
  return wiring.layer("Add", `${name}_sum`, {}, dropped(wiring, `${name}_dropout`, dropout, answer), of.from);
}

/** Two dense layers at each place, added to what came in. */
export function feedForward(
  wiring: Wiring,
  name: string,
  from: string,
  { width, dropout }: BlockSpec,
): string {
  const normed = wiring.layer("LayerNormalization", `${name}_norm`, { epsilon: 1e-5 }, from);
  const wide = wiring.layer("Dense", `${name}_wide`, { units: 4 * width, activation: "gelu_new" }, normed);
  const narrow = wiring.layer("Dense", `${name}_narrow`, { units: width }, wide);
  return wiring.layer("Add", `${name}_sum`, {}, dropped(wiring, `${name}_dropout`, dropout, narrow), from);
}

const dropped = (wiring: Wiring, name: string, rate: number, from: string): string =>
  rate === 0 ? from : wiring.layer("Dropout", name, { rate }, from);
