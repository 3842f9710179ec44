import { z } from "zod";
import { RingfoldError } from "../../protocol/errors.ts";
import type { ModelInput, Node, RowShape } from "./graph.ts";
import { sizeOf } from "./layers/geometry.ts";

/**
 * Functional topologies, as TF.js and Keras 2 write them: layers by name, each with the layers that it takes
 * (`inbound_nodes`). Nothing is evaluated, and a layer that is used twice is refused.
 */

const reference = z.tuple([z.string(), z.literal(0), z.literal(0)], z.unknown()).transform(([name]) => name);
/** What Keras writes for arguments of a call beside the first. */
const callSchema = z.strictObject({
  value: reference.optional(),
  key: reference.optional(),
  use_causal_mask: z.boolean().optional(),
  mask: z.null().optional(),
  training: z.null().optional(),
});
type Call = z.output<typeof callSchema>;
const place = [z.string(), z.literal(0), z.literal(0)] as const;
/** What a layer takes, with the call that it makes of it. */
const taken = z.union([
  z.tuple([...place]).transform(([name]): { name: string; call: Call } => ({ name, call: {} })),
  z.tuple([...place, callSchema]).transform(([name, , , call]) => ({ name, call })),
]);
const layerSchema = z.looseObject({
  class_name: z.string().max(64),
  name: z.string().min(1).max(128),
  config: z.record(z.string(), z.unknown()),
  inbound_nodes: z.array(z.array(taken).max(64)).max(1, "a layer is used twice, and can be used once"),
});
/** A model of one output writes it as a reference or as a list of one. */
const outputs = z.union([reference.transform((one) => [one]), z.array(reference)]);
export const functionalSchema = z.looseObject({
  class_name: z.enum(["Functional", "Model"]),
  config: z.looseObject({
    layers: z.array(layerSchema).min(1).max(1_024),
    output_layers: outputs.refine((all) => all.length === 1, "a model has one output here"),
  }),
});

type LayerJson = z.output<typeof layerSchema>;
const invalid = (message: string, layer: string) => new RingfoldError("JOB_INVALID", message, { layer });

/**
 * The layers in an order in which each comes after all that it takes, and otherwise as in the file.
 * @throws RingfoldError JOB_INVALID naming the layer
 */
export function orderedNodes(
  { config }: z.output<typeof functionalSchema>,
  row: RowShape,
): { inputs: ModelInput[]; nodes: Node[] } {
  const isInput = ({ class_name }: LayerJson) => class_name === "InputLayer";
  const inputJsons = config.layers.filter(isInput);
  const inputs = inputJsons.map((json) => modelInput(json, row, inputJsons.length === 1));
  const places = new Map(inputs.map(({ name }, i) => [name, -1 - i]));
  if (places.size < inputs.length) throw invalid("two inputs have one name", inputs[0]!.name);
  const nodes: Node[] = [];
  let waiting = config.layers.filter((json) => !isInput(json));
  while (waiting.length > 0) {
    const next = waiting.find((json) => takenBy(json).every((name) => places.has(name)));
    if (!next)
      throw invalid(`layer ${waiting[0]!.name} takes a layer that is not there, or itself`, waiting[0]!.name);
    nodes.push({
      json: { ...next, config: { ...next.config, name: next.name } },
      sources: takenBy(next).map((name) => places.get(name)!),
      causal: (next.inbound_nodes[0] ?? []).some(({ call }) => call.use_causal_mask === true),
    });
    places.set(next.name, nodes.length - 1);
    waiting = waiting.filter((json) => json !== next);
  }
  checkUse(nodes, inputs, config.output_layers[0]!);
  return { inputs, nodes };
}

/** In order; of attention the query, the value and, where it is another one, the key. */
const takenBy = ({ inbound_nodes }: LayerJson): string[] =>
  (inbound_nodes[0] ?? []).flatMap(({ name, call: { value, key } }) =>
    [name, value, key].filter((taken) => taken !== undefined),
  );

/** Every layer leads to the output, which is then the last one. */
function checkUse(nodes: readonly Node[], inputs: readonly ModelInput[], output: string): void {
  const used = new Set(nodes.flatMap(({ sources }) => sources));
  const nameOf = ({ json }: Node) => json.config.name as string;
  const idle = nodes.findIndex((node, i) => !used.has(i) && nameOf(node) !== output);
  if (idle >= 0) throw invalid(`layer ${nameOf(nodes[idle]!)} leads nowhere`, nameOf(nodes[idle]!));
  const last = nodes.at(-1);
  if (!last || nameOf(last) !== output)
    throw invalid(`the output, ${output}, is taken by another layer`, output);
  const unused = inputs.findIndex((_, i) => !used.has(-1 - i));
  if (unused >= 0) throw invalid(`input ${inputs[unused]!.name} leads nowhere`, inputs[unused]!.name);
}

/** An input is the feature of its name; a model with one input may also take the whole row, whatever its name. */
function modelInput(
  { name, config }: LayerJson,
  { inputShape, features }: RowShape,
  isOnly: boolean,
): ModelInput {
  let offset = 0;
  for (const feature of features ?? []) {
    const elementCount = sizeOf(feature.shape);
    if (feature.name === name) {
      return {
        name,
        shape: declaredShape(name, config.batch_input_shape, feature.shape),
        offset,
        elementCount,
      };
    }
    offset += elementCount;
  }
  if (isOnly) {
    const shape = declaredShape(name, config.batch_input_shape, inputShape);
    return { name, shape, offset: 0, elementCount: sizeOf(inputShape) };
  }
  const known = (features ?? []).map((feature) => feature.name).join(", ") || "none";
  throw invalid(`input ${name} is no feature of the data; known are ${known}`, name);
}

const batchShapeSchema = z.array(z.number().int().positive().nullable()).min(1).max(9);

/** A feature that is a single number has shape [], and goes into a model as [1]. */
function declaredShape(name: string, declared: unknown, given: readonly number[]): readonly number[] {
  const parsed = batchShapeSchema.nullish().safeParse(declared);
  const lengths = parsed.success ? parsed.data?.slice(1) : undefined;
  const shape = given.length === 0 ? [1] : given;
  if (parsed.success && (!lengths || agrees(lengths, shape))) return shape;
  const wanted = lengths?.map((length) => length ?? "any").join(", ") ?? "?";
  throw invalid(`input ${name} is declared as [${wanted}], but the data has [${given.join(", ")}]`, name);
}

const agrees = (lengths: readonly (number | null)[], shape: readonly number[]): boolean =>
  lengths.length === shape.length && lengths.every((length, i) => length === null || length === shape[i]);
