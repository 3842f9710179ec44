import { type ErrorCode, RingfoldError } from "../../protocol/errors.ts";
import type { Graph } from "./graph.ts";

/**
 * Checks that what embeddings take from rows of examples are whole numbers within their tables: an engine would read past
 * the end of one, or worse.
 * @param rows f32 [exampleCount, length of a row]
 * @throws RingfoldError `code` naming the feature, the example and the number
 */
export function checkIds(
  { inputs, layers }: Graph,
  rows: Float32Array,
  exampleCount: number,
  code: ErrorCode,
): void {
  const width = rows.length / exampleCount;
  for (const layer of layers) {
    if (layer.kind !== "Embedding") continue;
    const { name, offset, elementCount } = inputs[-1 - layer.sources[0]!]!;
    const idCount = layer.config.input_dim;
    for (let row = 0; row < exampleCount; row++) {
      for (let i = row * width + offset, end = i + elementCount; i < end; i++) {
        const id = rows[i]!;
        if (id >= 0 && id < idCount && Number.isInteger(id)) continue;
        const message = `${name} of example ${row} is ${id}, and must be a whole number from 0 to ${idCount - 1}`;
        throw new RingfoldError(code, message, { feature: name, example: row });
      }
    }
  }
}
