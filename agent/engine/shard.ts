import assert from "node:assert/strict";
import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import { shapeAcross } from "../../protocol/layer-cut.ts";
import type { ModelDescription } from "../../protocol/messages/model.ts";
import type { NamedTensor } from "../../protocol/safetensors.ts";
import type { Graph } from "../models/graph.ts";
import { checkIds } from "../models/ids.ts";
import type { Layer } from "../models/layers/kinds.ts";
import { readTopology } from "../models/topology.ts";
import { forward } from "./forward.ts";
import type { ModelShard } from "./port.ts";
import type { Runtime } from "./runtime.ts";
import { createWeights, layoutOf } from "./weights.ts";

/**
 * Layers `[fromLayer, toLayer)` of a model with their weights, for inference. Weights of other layers are read over.
 * @throws RingfoldError ARTEFACT_CORRUPT when topology, range or weights do not fit
 */
export function openModelShard(
  runtime: Runtime,
  description: ModelDescription,
  { fromLayer, toLayer }: { readonly fromLayer: number; readonly toLayer: number },
  tensors: readonly NamedTensor[],
): ModelShard {
  const { tf } = runtime;
  const graph = graphOf(description);
  const all = graph.layers.length;
  const layers = graph.layers.slice(fromLayer, toLayer);
  if (!(fromLayer >= 0 && fromLayer < toLayer && toLayer <= all)) {
    const message = `the model has ${all} layers, so no shard of layers ${fromLayer} to ${toLayer}`;
    throw new RingfoldError("ARTEFACT_CORRUPT", message, { fromLayer, toLayer });
  }
  const inputShape = shapeAcross(description, fromLayer);
  const outputShape = shapeAcross(description, toLayer);
  runtime.activate();
  const weights = createWeights(runtime, layers, gather(layers, tensors));
  const run = { graph, fromLayer, toLayer, weights: weights.byLayer };
  let isClosed = false;

  return {
    async infer({ shape, data }) {
      assert(!isClosed, "the shard is open");
      const size = shape.reduce((product, length) => product * length, 1);
      const fits =
        shape.length === inputShape.length + 1 && inputShape.every((length, i) => length === shape[i + 1]);
      if (!fits || data.length !== size) {
        const message = `inputs must have shape [batch, ${inputShape.join(", ")}], but are [${shape.join(", ")}]`;
        throw new RingfoldError("REQUEST_INVALID", message, { elements: data.length });
      }
      if (size === 0) {
        return { shape: [0, ...outputShape], data: new Float32Array(0) };
      }
      if (fromLayer === 0) checkIds(graph, data, shape[0]!, "REQUEST_INVALID");
      runtime.activate();
      const output = tf.tidy(() => forward(runtime, run, tf.tensor(data, [...shape]), { ending: "whole" }));
      const result = new Float32Array(output.size);
      try {
        await runtime.read([{ tensor: output, into: result }]);
      } finally {
        output.dispose();
      }
      return { shape: [...output.shape], data: result };
    },
    close() {
      if (isClosed) return;
      isClosed = true;
      weights.dispose();
    },
  };
}

/** A description comes from a manifest, so what is wrong with it is wrong with the artefact. */
function graphOf(description: ModelDescription): Graph {
  try {
    return readTopology(description.topology, description);
  } catch (error) {
    const { message } = toRingfoldError(error);
    throw new RingfoldError("ARTEFACT_CORRUPT", message, {}, { cause: error });
  }
}

/** The weights of the layers, flat, in layout order. */
function gather(layers: readonly Layer[], tensors: readonly NamedTensor[]): Float32Array {
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const layout = layoutOf(layers);
  const last = layout.at(-1);
  const flat = new Float32Array(last ? last.offset + last.elementCount : 0);
  for (const { name, shape, offset, elementCount } of layout) {
    const tensor = byName.get(name);
    if (!tensor) throw new RingfoldError("ARTEFACT_CORRUPT", `the weights lack ${name}`, { tensor: name });
    if (tensor.shape.join() !== shape.join() || tensor.data.length !== elementCount) {
      const message = `${name} has shape [${tensor.shape.join(", ")}], and the model needs [${shape.join(", ")}]`;
      throw new RingfoldError("ARTEFACT_CORRUPT", message, { tensor: name });
    }
    flat.set(tensor.data, offset);
  }
  return flat;
}
