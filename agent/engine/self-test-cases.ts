import type { ExampleShape } from "../../protocol/data-schema.ts";
import { Wiring } from "../models/architectures/wiring.ts";
import type { LayerJson } from "../models/graph.ts";
import { sequentialTopology } from "../models/topology.ts";

/** A small model and a batch for it. Lengths are odd, as kernels work in lanes of four and tiles of eight. */
export interface SelfTestCase {
  readonly topology: Record<string, unknown>;
  readonly shape: ExampleShape;
  readonly inputs: Float32Array;
  readonly labels: Float32Array;
}

const layer = (class_name: string, config: LayerJson["config"]): LayerJson => ({ class_name, config });
const repeat = (length: number, numberAt: (i: number) => number) =>
  Float32Array.from({ length }, (_, i) => numberAt(i));

/**
 * Convolution, max-pool and two dense layers. The convolution starts with a bias of -1 and has no ReLU, so the maxima of its
 * windows are negative: a backend whose pool gradient drops those trains wrong, silently.
 */
const images: SelfTestCase = {
  topology: sequentialTopology("self_test", [
    layer("Conv2D", {
      name: "conv",
      filters: 5,
      kernel_size: [3, 3],
      padding: "same",
      bias_initializer: { class_name: "Constant", config: { value: -1 } },
    }),
    layer("MaxPooling2D", { name: "pool", pool_size: [2, 2] }),
    layer("Flatten", { name: "flatten" }),
    layer("Dense", { name: "hidden", units: 7, activation: "relu" }),
    layer("Dense", { name: "classes", units: 4, activation: "softmax" }),
  ]),
  shape: { inputShape: [9, 8, 2], target: { kind: "class", classCount: 4 } },
  inputs: repeat(3 * 9 * 8 * 2, (i) => ((i * 37) % 101) / 101 - 0.5),
  labels: Float32Array.of(2, 0, 3),
};

/** What goes along a text. Ids come more than once, and the last places of some texts are padding, which nothing may look at. */
const tokens = {
  ...{ name: "text", shape: [7], kind: "category" as const, cardinality: 11 },
  ids: [[3, 10, 3, 1, 7, 10, 2], [5, 5, 9, 4, 0, 0, 0], [8, 1, 6, 2, 10, 3, 0]], // biome-ignore format: one text each
};

/** Embedding, causal attention, layer norm, GELU, GRU and LSTM, in front of a softmax. */
const sequences: SelfTestCase = {
  topology: sequenceTopology(),
  shape: { inputShape: [7], features: [tokens], target: { kind: "class", classCount: 5 } },
  inputs: Float32Array.from(tokens.ids.flat()),
  labels: Float32Array.of(4, 0, 1),
};

/** Weights begin larger than usual: each tensor's gradient is then a fair share of the largest number, and is seen when it is wrong. */
function sequenceTopology(): Record<string, unknown> {
  const wiring = new Wiring();
  const normal = (stddev: number) => ({ class_name: "RandomNormal", config: { mean: 0, stddev } });
  const biased = { bias_initializer: normal(0.5) };
  const recurrent = { recurrent_activation: "sigmoid", ...biased };
  const table = { input_dim: 11, output_dim: 9, mask_zero: true, embeddings_initializer: normal(1) };
  const vectors = wiring.layer("Embedding", "embedding", table, wiring.input(tokens));
  const of = { query: vectors, value: vectors, causal: true };
  const attended = wiring.attention("attention", { num_heads: 3, key_dim: 5, ...biased }, of);
  const norm = { epsilon: 1e-5, gamma_initializer: normal(1), beta_initializer: normal(1) };
  const normed = wiring.layer("LayerNormalization", "norm", norm, attended);
  const dense = wiring.layer("Dense", "dense", { units: 13, activation: "gelu", ...biased }, normed);
  const gru = { units: 7, return_sequences: true, reset_after: true, ...recurrent };
  const along = wiring.layer("GRU", "gru", gru, dense);
  const last = wiring.layer("LSTM", "lstm", { units: 6, ...recurrent }, along);
  wiring.layer("Dense", "classes", { units: 5, activation: "softmax", kernel_initializer: normal(1) }, last);
  return wiring.topology("self_test_sequences", "classes");
}

export const selfTestCases = { images, sequences };
