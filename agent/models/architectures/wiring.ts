import type { Feature } from "../../../protocol/data-schema.ts";

/**
 * Writes functional topologies: each call adds a layer and gives its name back, to be taken by later ones. The result is
 * what `model.toJSON()` of TF.js writes for the same model.
 */
export class Wiring {
  readonly #layers: object[] = [];
  readonly #inputs: string[] = [];

  /** A part of the example, by its name. A single number goes in as [1]. */
  input({ name, shape }: Pick<Feature, "name" | "shape">): string {
    const batch_input_shape = [null, ...(shape.length === 0 ? [1] : shape)];
    const config = { name, batch_input_shape, dtype: "float32", sparse: false };
    this.#layers.push({ class_name: "InputLayer", name, config, inbound_nodes: [] });
    this.#inputs.push(name);
    return name;
  }

  layer(class_name: string, name: string, config: object, ...takes: readonly string[]): string {
    const inbound_nodes = [takes.map((taken) => [taken, 0, 0, {}])];
    this.#layers.push({ class_name, name, config: { ...config, name }, inbound_nodes });
    return name;
  }

  /** Attention of `query` to `value`; causal hides what comes later. */
  attention(
    name: string,
    config: object,
    { query, value, causal }: { readonly query: string; readonly value: string; readonly causal: boolean },
  ): string {
    const call = { value: [value, 0, 0], use_causal_mask: causal };
    const class_name = "MultiHeadAttention";
    this.#layers.push({
      class_name,
      name,
      config: { ...config, name },
      inbound_nodes: [[[query, 0, 0, call]]],
    });
    return name;
  }

  topology(name: string, output: string): Record<string, unknown> {
    return {
      class_name: "Model",
      config: {
        name,
        layers: this.#layers,
        input_layers: this.#inputs.map((input) => [input, 0, 0]),
        output_layers: [[output, 0, 0]],
      },
      keras_version: "tfjs-layers 4.22.0",
      backend: "tensor_flow.js",
    };
  }
}
