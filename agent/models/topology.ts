import { z } from "zod";
import { RingfoldError } from "../../protocol/errors.ts";
import type { ModelDescription } from "../../protocol/messages/model.ts";
import { ShapeMismatch, sizeOf } from "./layer-geometry.ts";
import { isLayerKind, type Layer, layerKinds, refusedKinds } from "./layer-kinds.ts";

/** A layer as TF.js and Keras write it. */
export interface LayerJson {
  readonly class_name: string;
  readonly config: Readonly<Record<string, unknown>>;
}

const layerJsonSchema = z.looseObject({
  class_name: z.string().max(64),
  config: z.record(z.string(), z.unknown()),
});
const layersJsonSchema = z.array(layerJsonSchema).min(1).max(1_024);
/** Read over: the versions and names that a writer puts around the layers. Older files hold the layers as `config`. */
const topologySchema = z.looseObject({
  class_name: z.literal("Sequential", "only sequential models can be trained and cut into shards"),
  config: z.union([z.looseObject({ layers: layersJsonSchema }), layersJsonSchema]),
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
 * @param inputShape of one example; a `batch_input_shape` in the topology must agree with it
 * @throws RingfoldError JOB_INVALID naming the layer
 */
export function readTopology(topology: unknown, inputShape: readonly number[]): Layer[] {
  const parsed = topologySchema.safeParse(topology);
  if (!parsed.success) throw invalid(`model topology: ${firstIssue(parsed.error)}`);
  const { config } = parsed.data;
  const jsons = withoutInputLayer(Array.isArray(config) ? config : config.layers);
  const layers: Layer[] = [];
  const names = new Set<string>();
  let shape = inputShape;
  let parameterCount = 0;
  for (const json of jsons) {
    const layer = readLayer(json, shape);
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
    shape = layer.outputShape;
  }
  if (layers.length === 0) throw invalid("model topology: it has no layers");
  return layers;
}

function readLayer(json: LayerJson, inputShape: readonly number[]): Layer {
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
  checkDeclaredInput(name, config.batch_input_shape, inputShape);
  try {
    const geometry = kind.geometry(config as never, inputShape);
    return { kind: json.class_name, name: config.name, inputShape, config, ...geometry } as Layer;
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
  inputShape: readonly number[],
  layers: readonly Layer[],
): ModelDescription {
  return {
    topology,
    inputShape: [...inputShape],
    outputShape: [...(layers.at(-1)?.outputShape ?? inputShape)],
    parameterCount: layers.reduce((count, layer) => count + parametersOf(layer), 0),
    layers: layers.map((layer) => ({
      name: layer.name,
      kind: layer.kind,
      outputShape: [...layer.outputShape],
      parameterCount: parametersOf(layer),
      multiplyAdds: layer.multiplyAdds,
    })),
  };
}

function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0];
  const path = issue?.path.join(".") ?? "";
  return `${path ? `${path}: ` : ""}${issue?.message ?? "invalid"}`;
}
