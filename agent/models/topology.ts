import { z } from "zod";
import { RingfoldError } from "../../protocol/errors.ts";
import type { ModelDescription } from "../../protocol/messages/model.ts";
import { crossingAt } from "./crossing.ts";
import { functionalSchema, orderedNodes } from "./functional.ts";
import type { Graph, LayerJson, ModelInput, Node, RowShape } from "./graph.ts";
import { ShapeMismatch, sizeOf } from "./layers/geometry.ts";
import { isLayerKind, type Layer, layerKinds, refusedKinds } from "./layers/kinds.ts";
import { outputMask } from "./layers/masks.ts";

const layerJsonSchema = z.looseObject({
  class_name: z.string().max(64),
  config: z.record(z.string(), z.unknown()),
});
const layersJsonSchema = z.array(layerJsonSchema).min(1).max(1_024);
/** Read over: the versions and names that a writer puts around the layers. Older files hold the layers as `config`. */
const sequentialSchema = z.looseObject({
  class_name: z.literal("Sequential"),
  config: z.union([z.looseObject({ layers: layersJsonSchema }), layersJsonSchema]),
});
const topologySchema = z.discriminatedUnion("class_name", [sequentialSchema, functionalSchema], {
  error: () => "only sequential and functional models can be trained and cut into shards",
});

/** 512 MiB of f32: with gradients, optimizer state and activations a heap of 4 GiB holds no more. */
const parameterCountMax = 2 ** 27;
/** Elements of one activation of one example: 64 MiB. */
const activationElementsMax = 2 ** 24;

const text = (shape: readonly number[]): string => `[${shape.join(", ")}]`;
const invalid = (message: string, layer?: string) =>
  new RingfoldError("JOB_INVALID", message, layer === undefined ? {} : { layer });

/** Writes layers down as `model.toJSON()` of TF.js does. */
export const sequentialTopology = (name: string, layers: readonly LayerJson[]): Record<string, unknown> => ({
  class_name: "Sequential",
  config: { name, layers },
  keras_version: "tfjs-layers 4.22.0",
  backend: "tensor_flow.js",
});

/**
 * Reads a topology and works out every shape, without building anything: no size in it costs memory before it is checked.
 *
 * @param row of one example; a `batch_input_shape` in the topology must agree with it
 * @throws RingfoldError JOB_INVALID naming the layer
 */
export function readTopology(topology: unknown, row: RowShape): Graph {
  const parsed = topologySchema.safeParse(topology);
  if (!parsed.success) throw invalid(`model topology: ${firstIssue(parsed.error)}`);
  const { inputs, nodes } =
    parsed.data.class_name === "Sequential" ? chainOf(parsed.data, row) : orderedNodes(parsed.data, row);
  if (nodes.length === 0) throw invalid("model topology: it has no layers");
  const layers: Layer[] = [];
  const names = new Set<string>();
  let parameterCount = 0;
  for (const node of nodes) {
    const inputShapes = node.sources.map((at) => (at < 0 ? inputs[-1 - at]!.shape : layers[at]!.outputShape));
    const inputMasks = node.sources.map((at) => (at < 0 ? [] : outputMask(layers[at]!, at)));
    const layer = readLayer(node, { inputShapes, inputMasks });
    if (names.has(layer.name)) throw invalid(`two layers are called ${layer.name}`, layer.name);
    names.add(layer.name);
    parameterCount += parametersOf(layer);
    if (parameterCount > parameterCountMax) {
      throw invalid(
        `the model has more than ${parameterCountMax} parameters at layer ${layer.name}`,
        layer.name,
      );
    }
    if (sizeOf(layer.outputShape) > activationElementsMax) {
      throw invalid(`layer ${layer.name} puts out ${text(layer.outputShape)}, which is too much`, layer.name);
    }
    layers.push(layer);
  }
  return { inputs, layers };
}

/** A chain is a graph in which each layer takes the one before it. */
function chainOf(
  { config }: z.output<typeof sequentialSchema>,
  { inputShape }: RowShape,
): { inputs: ModelInput[]; nodes: Node[] } {
  const jsons = withoutInputLayer(Array.isArray(config) ? config : config.layers);
  const input = { name: "input", shape: inputShape, offset: 0, elementCount: sizeOf(inputShape) };
  return { inputs: [input], nodes: jsons.map((json, i) => ({ json, sources: [i - 1], causal: false })) };
}

function readLayer({ json, ...links }: Node, inputs: Pick<Layer, "inputShapes" | "inputMasks">): Layer {
  const { sources } = links;
  const { inputShapes } = inputs;
  const name = typeof json.config.name === "string" ? json.config.name.slice(0, 128) : json.class_name;
  if (!isLayerKind(json.class_name)) {
    const why = Object.hasOwn(refusedKinds, json.class_name) ? refusedKinds[json.class_name] : undefined;
    const remedy = why ?? `known are ${Object.keys(layerKinds).join(", ")}`;
    throw invalid(`layer ${name}: ${json.class_name} is not supported: ${remedy}`, name);
  }
  const kind = layerKinds[json.class_name];
  const parsed = kind.schema.safeParse(json.config);
  if (!parsed.success) throw invalid(`layer ${name}: ${firstIssue(parsed.error)}`, name);
  const config = parsed.data;
  checkDeclaredInput(name, config.batch_input_shape, inputShapes[0] ?? []);
  if (json.class_name === "Embedding" && !sources.every((at) => at < 0)) {
    throw invalid(`layer ${name}: an embedding takes whole numbers, and so an input of the model`, name);
  }
  try {
    const geometry = kind.geometry(config as never, inputShapes);
    return { kind: json.class_name, name: config.name, config, ...links, ...inputs, ...geometry } as Layer;
  } catch (error) {
    if (error instanceof ShapeMismatch) throw invalid(`layer ${name} ${error.message}`, name);
    throw error;
  }
}

function checkDeclaredInput(
  name: string,
  declared: readonly (number | null)[] | null | undefined,
  inputShape: readonly number[],
): void {
  if (!declared) return;
  const shape = declared.slice(1);
  const agrees =
    shape.length === inputShape.length &&
    shape.every((length, i) => length === null || length === inputShape[i]);
  if (agrees) return;
  const wanted = shape.map((length) => length ?? "any").join(", ");
  throw invalid(`layer ${name} takes inputs of shape [${wanted}], but ${text(inputShape)} comes in`, name);
}

/** Keras writes an InputLayer first; its shape moves to the layer after it. */
function withoutInputLayer(layers: readonly LayerJson[]): readonly LayerJson[] {
  const [first, second, ...rest] = layers;
  if (first?.class_name !== "InputLayer" || !second) return layers;
  const { batch_input_shape } = first.config;
  return [{ ...second, config: { ...second.config, batch_input_shape } }, ...rest];
}

export const parametersOf = (layer: Pick<Layer, "weights">): number =>
  layer.weights.reduce((count, { shape }) => count + sizeOf(shape), 0);

/** What others need to know of a model: the coordinator for placement, serving for its shapes. */
export function describeModel(
  topology: Record<string, unknown>,
  { inputShape, features }: RowShape,
  graph: Graph,
): ModelDescription {
  const { layers } = graph;
  return {
    topology,
    inputShape: [...inputShape],
    ...(features ? { features: [...features] } : {}),
    outputShape: [...(layers.at(-1)?.outputShape ?? inputShape)],
    parameterCount: layers.reduce((count, layer) => count + parametersOf(layer), 0),
    layers: layers.map((layer, i) => ({
      name: layer.name,
      kind: layer.kind,
      outputShape: [...layer.outputShape],
      parameterCount: parametersOf(layer),
      multiplyAdds: layer.multiplyAdds,
      ...(layer.keptElements === undefined ? {} : { keptElements: layer.keptElements }),
      ...manyCrossing(graph, i),
    })),
  };
}

/** The elements that cross behind layer `at`, where they are more than what it puts out. */
function manyCrossing(graph: Graph, at: number): { readonly crossingElements?: number } {
  const { tensors, size } = crossingAt(graph, at + 1);
  return tensors.length === 1 && tensors[0]!.source === at ? {} : { crossingElements: size };
}

function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0];
  const path = issue?.path.join(".") ?? "";
  return `${path ? `${path}: ` : ""}${issue?.message ?? "invalid"}`;
}
