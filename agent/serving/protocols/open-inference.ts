import { z } from "zod";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { Placement } from "../../../protocol/messages/serving.ts";
import { elementCount, type Tensor } from "../wire-tensor.ts";

/**
 * The JSON of the Open Inference Protocol, version 2, without HTTP: bodies in, tensors out, and back. Every model has
 * one input tensor and one output tensor, as sequential models do.
 * Source: github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md.
 */

export const platform = "ringfold";
const inputName = "input";
const outputName = "output";
const shapeRankMax = 8;

interface NumberRange {
  readonly integer: boolean;
  readonly min: number;
  readonly max: number;
}
const float: NumberRange = { integer: false, min: -Infinity, max: Infinity };
const signed = (bits: number): NumberRange => ({
  integer: true,
  min: -(2 ** (bits - 1)),
  max: 2 ** (bits - 1) - 1,
});
const unsigned = (bits: number): NumberRange => ({ integer: true, min: 0, max: 2 ** bits - 1 });

/** What may come in; all of it becomes f32. JSON numbers carry integers exactly up to 2^53, which f32 rounds anyway. */
const datatypes: ReadonlyMap<string, NumberRange> = new Map([
  ["FP32", float],
  ["FP64", float],
  ["INT8", signed(8)],
  ["INT16", signed(16)],
  ["INT32", signed(32)],
  ["INT64", signed(64)],
  ["UINT8", unsigned(8)],
  ["UINT16", unsigned(16)],
  ["UINT32", unsigned(32)],
  ["UINT64", unsigned(64)],
]);

const parametersSchema = z.record(z.string(), z.unknown()).optional();
const inferenceRequestSchema = z.object({
  id: z.string().max(1_024).optional(),
  parameters: parametersSchema,
  inputs: z
    .array(
      z.object({
        name: z.literal(inputName, `the model has one input, "${inputName}"`),
        shape: z.array(z.number().int().nonnegative()).min(1).max(shapeRankMax),
        datatype: z.string().refine((name) => datatypes.has(name), {
          message: `use one of ${[...datatypes.keys()].join(", ")}`,
        }),
        parameters: parametersSchema,
        /** Checked by hand below: a schema would visit each of a million numbers through a closure. */
        data: z.array(z.unknown()),
      }),
    )
    .length(1, `the model has one input, "${inputName}"`),
  outputs: z
    .array(
      z.object({
        name: z.literal(outputName, `the model has one output, "${outputName}"`),
        parameters: parametersSchema,
      }),
    )
    .max(1)
    .optional(),
});

export interface InferenceRequest {
  /** Given back in the answer; null when the client sent none. */
  readonly id: string | null;
  readonly input: Tensor;
}

/**
 * Reads the body of an infer request. Data may be flat or nested as the shape is.
 * @throws RingfoldError REQUEST_INVALID, naming the field, for whatever bytes a client sends
 */
export function parseInferenceRequest(body: Uint8Array): InferenceRequest {
  const result = inferenceRequestSchema.safeParse(parseJson(body));
  if (!result.success) {
    const issue = result.error.issues[0];
    throw invalid(showPath(issue?.path ?? []), issue?.message ?? "invalid");
  }
  const { id, inputs } = result.data;
  const [input] = inputs;
  const range = datatypes.get(input?.datatype ?? "");
  if (input === undefined || range === undefined) throw invalid("inputs", "is empty");
  return { id: id ?? null, input: { shape: input.shape, data: readNumbers(input, range) } };
}

/** @param reply with finite numbers: JSON has no word for others */
export function formatInferenceReply(
  reply: { readonly name: string; readonly version: number; readonly output: Tensor },
  id: string | null,
): object {
  const { shape, data } = reply.output;
  return {
    model_name: reply.name,
    model_version: String(reply.version),
    ...(id === null ? {} : { id }),
    outputs: [{ name: outputName, shape, datatype: "FP32", data: Array.from(data) }],
  };
}

export const formatModelMetadata = ({ name, version, manifest }: Placement): object => ({
  name,
  versions: [String(version)],
  platform,
  inputs: [{ name: inputName, datatype: "FP32", shape: [-1, ...manifest.model.inputShape] }],
  outputs: [{ name: outputName, datatype: "FP32", shape: [-1, ...manifest.model.outputShape] }],
});

function parseJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(body));
  } catch (cause) {
    throw new RingfoldError("REQUEST_INVALID", "the body is not JSON in UTF-8", {}, { cause });
  }
}

interface DeclaredTensor {
  readonly shape: readonly number[];
  readonly datatype: string;
  readonly data: readonly unknown[];
}

function readNumbers({ shape, datatype, data }: DeclaredTensor, range: NumberRange): Float32Array {
  const nested = shape.length > 1 && Array.isArray(data[0]);
  const numbers: number[] = [];
  // Grows with what was really sent: a body of fifty bytes can declare a shape of 2^60.
  readLevel(data, nested ? shape : [elementCount(shape)], "inputs.0.data", (value) => {
    const problem = numberProblem(value, datatype, range);
    if (problem === null) numbers.push(value as number);
    return problem;
  });
  return Float32Array.from(numbers);
}

function numberProblem(value: unknown, datatype: string, range: NumberRange): string | null {
  if (typeof value !== "number" || !Number.isFinite(Math.fround(value))) {
    return `${showValue(value)} is not a finite number in the range of f32`;
  }
  const fits = value >= range.min && value <= range.max && (!range.integer || Number.isInteger(value));
  return fits ? null : `${value} is not a number of datatype ${datatype}`;
}

/** Visits numbers in row-major order. Depth is bounded by the rank of the shape, so no nesting can exhaust the stack. */
function readLevel(
  values: readonly unknown[],
  sizes: readonly number[],
  path: string,
  visit: (value: unknown) => string | null,
): void {
  const [size = 0, ...innerSizes] = sizes;
  if (values.length !== size) {
    throw invalid(path, `has ${values.length} values, the shape needs ${size}`);
  }
  for (const [index, value] of values.entries()) {
    if (innerSizes.length === 0) {
      const problem = visit(value);
      if (problem !== null) throw invalid(`${path}.${index}`, problem);
    } else if (Array.isArray(value)) readLevel(value, innerSizes, `${path}.${index}`, visit);
    else throw invalid(`${path}.${index}`, `${showValue(value)} is not an array of ${innerSizes[0]} values`);
  }
}

/** `inputs.0.data.17` as people write it: `inputs[0].data[17]`. */
const showPath = (path: readonly PropertyKey[]): string =>
  path
    .map(String)
    .join(".")
    .replaceAll(/\.(\d+)(?=\.|$)/g, "[$1]");

/** A value that came from JSON, for an error message, bounded. */
const showValue = (value: unknown): string => {
  if (Array.isArray(value)) return "an array";
  if (typeof value === "object" && value !== null) return "an object";
  return JSON.stringify(value).slice(0, 40);
};

function invalid(field: string, detail: string): RingfoldError {
  const name = showPath(field.split("."));
  return new RingfoldError("REQUEST_INVALID", name === "" ? detail : `${name}: ${detail}`, { field: name });
}
