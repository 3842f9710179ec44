import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  formatInferenceReply,
  formatModelMetadata,
  parseInferenceRequest,
} from "../../../agent/serving/protocols/open-inference.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import { manifestOf, placementOf } from "../../fixtures/serving.ts";

const parse = (body: unknown) => parseInferenceRequest(new TextEncoder().encode(JSON.stringify(body)));
const tensor = { name: "input", shape: [2, 2], datatype: "FP32", data: [1, 2, 3, 4] as unknown[] };
const requestOf = (change: object) => ({ inputs: [{ ...tensor, ...change }] });

describe("parseInferenceRequest", () => {
  test("reads flat and nested data alike, and keeps the id", () => {
    const flat = parse({ id: "42", ...requestOf({}), parameters: { any: 1 } });
    expect(flat).toEqual({ id: "42", input: { shape: [2, 2], data: Float32Array.of(1, 2, 3, 4) } });
    const nested = [
      [1, 2],
      [3, 4],
    ];
    expect(parse(requestOf({ data: nested })).input).toEqual(flat.input);
    expect(parse(requestOf({})).id).toBeNull();
  });

  test("reads any finite f32 array of any shape back as it was, flat or nested", () => {
    const nest = (data: number[], sizes: number[]): unknown[] => {
      const [, ...inner] = sizes;
      const step = inner.reduce((product, size) => product * size, 1);
      if (inner.length === 0) return data;
      return Array.from({ length: data.length / step }, (_, index) =>
        nest(data.slice(index * step, (index + 1) * step), inner),
      );
    };
    const shapes = fc.array(fc.integer({ min: 1, max: 4 }), { minLength: 1, maxLength: 4 });
    // JSON writes -0 as 0.
    const floats = fc.float({ noNaN: true, noDefaultInfinity: true }).map((value) => value + 0);
    fc.assert(
      fc.property(
        shapes.chain((shape) => {
          const length = shape.reduce((product, size) => product * size, 1);
          return fc.tuple(fc.constant(shape), fc.array(floats, { minLength: length, maxLength: length }));
        }),
        ([shape, data]) => {
          const expected = { shape, data: Float32Array.from(data) };
          expect(parse(requestOf({ shape, data })).input).toEqual(expected);
          const nested = parse(requestOf({ shape, data: nest(data, shape) })).input;
          expect(nested).toEqual(expected);
        },
      ),
    );
  });

  test.each([
    ["FP64", [0.5, -1e30]],
    ["INT8", [-128, 127]],
    ["INT64", [-1, 2 ** 40]],
    ["UINT8", [0, 255]],
  ])("converts %s", (datatype, data) => {
    expect([...parse(requestOf({ datatype, shape: [2], data })).input.data]).toEqual(data.map(Math.fround));
  });

  test.each<[string, unknown, string]>([
    ["no object", [1], "expected object"],
    ["null", null, "expected object"],
    ["no inputs", {}, "inputs:"],
    ["empty inputs", { inputs: [] }, "inputs:"],
    ["two inputs", { inputs: [tensor, tensor] }, "inputs:"],
    ["another name", requestOf({ name: "x" }), "inputs[0].name:"],
    ["an unknown datatype", requestOf({ datatype: "BYTES" }), "inputs[0].datatype:"],
    ["a datatype of the prototype", requestOf({ datatype: "constructor" }), "inputs[0].datatype:"],
    ["a negative size", requestOf({ shape: [-1, 4] }), "inputs[0].shape[0]:"],
    ["a fractional size", requestOf({ shape: [1.5] }), "inputs[0].shape[0]:"],
    ["an empty shape", requestOf({ shape: [] }), "inputs[0].shape:"],
    ["a shape of nine", requestOf({ shape: Array(9).fill(1) }), "inputs[0].shape:"],
    ["a huge shape", requestOf({ shape: [2 ** 40, 2 ** 12] }), "inputs[0].data:"],
    ["a huge nested shape", requestOf({ shape: [1, 2 ** 50], data: [[1]] }), "inputs[0].data[0]:"],
    ["too few numbers", requestOf({ data: [1, 2, 3] }), "inputs[0].data:"],
    ["too many numbers", requestOf({ data: [1, 2, 3, 4, 5] }), "inputs[0].data:"],
    ["a ragged array", requestOf({ data: [[1, 2], [3]] }), "inputs[0].data[1]:"],
    ["half nested data", requestOf({ data: [[1, 2], 3] }), "inputs[0].data[1]:"],
    [
      "data nested too deep",
      requestOf({
        data: [
          [1, 2],
          [[3], 4],
        ],
      }),
      "inputs[0].data[1][0]:",
    ],
    ["no data", requestOf({ data: undefined }), "inputs[0].data:"],
    ["data of text", requestOf({ data: "1234" }), "inputs[0].data:"],
    ["a number as text", requestOf({ data: [1, "2", 3, 4] }), "inputs[0].data[1]:"],
    ["null for NaN", requestOf({ data: [1, 2, Number.NaN, 4] }), "inputs[0].data[2]:"],
    ["true", requestOf({ data: [1, 2, 3, true] }), "inputs[0].data[3]:"],
    ["more than f32 holds", requestOf({ data: [1e39, 2, 3, 4] }), "inputs[0].data[0]:"],
    ["a byte of 256", requestOf({ datatype: "UINT8", data: [1, 2, 256, 4] }), "inputs[0].data[2]:"],
    ["a fractional integer", requestOf({ datatype: "INT32", data: [1, 2.5, 3, 4] }), "inputs[0].data[1]:"],
    ["an unknown output", { ...requestOf({}), outputs: [{ name: "logits" }] }, "outputs[0].name:"],
    ["an id that is no text", { ...requestOf({}), id: 7 }, "id:"],
  ])("refuses %s and names the field", (_, body, message) => {
    expect(() => parse(body)).toThrowError(
      expect.objectContaining({ code: "REQUEST_INVALID", message: expect.stringContaining(message) }),
    );
  });

  test.each<[string, string]>([
    ["infinity by overflow", '{"inputs":[{"name":"input","shape":[1],"datatype":"FP64","data":[1e999]}]}'],
    ["a bare NaN", '{"inputs":[{"name":"input","shape":[1],"datatype":"FP32","data":[NaN]}]}'],
    ["nothing", ""],
    ["a cut body", '{"inputs":[{"name":"inp'],
    [
      "an array of great depth",
      `{"inputs":[{"name":"input","shape":[1,1],"datatype":"FP32","data":${"[".repeat(100_000)}${"]".repeat(100_000)}}]}`,
    ],
  ])("refuses %s", (_, text) => {
    expect(() => parseInferenceRequest(new TextEncoder().encode(text))).toThrowError(
      expect.objectContaining({ code: "REQUEST_INVALID" }),
    );
  });

  test("whatever comes, it ends in an answer or REQUEST_INVALID", () => {
    const endsWell = (body: Uint8Array) => {
      try {
        parseInferenceRequest(body);
      } catch (error) {
        expect(error).toBeInstanceOf(RingfoldError);
        expect(error).toMatchObject({ code: "REQUEST_INVALID" });
      }
    };
    fc.assert(fc.property(fc.uint8Array({ maxLength: 2_000 }), endsWell));
    const anyInput = fc.record(
      {
        name: fc.constant("input"),
        shape: fc.jsonValue(),
        datatype: fc.constant("FP32"),
        data: fc.jsonValue(),
      },
      { requiredKeys: [] },
    );
    const anyRequest = fc.oneof(fc.jsonValue(), fc.record({ inputs: fc.tuple(anyInput) }));
    fc.assert(fc.property(anyRequest, (body) => endsWell(new TextEncoder().encode(JSON.stringify(body)))));
  });
});

describe("answers", () => {
  const output = { shape: [1, 2], data: Float32Array.of(0.25, 0.75) };

  test("carry version and id as text, and the output tensor", () => {
    expect(formatInferenceReply({ name: "digits", version: 3, output }, "42")).toEqual({
      model_name: "digits",
      model_version: "3",
      id: "42",
      outputs: [{ name: "output", shape: [1, 2], datatype: "FP32", data: [0.25, 0.75] }],
    });
    expect(formatInferenceReply({ name: "digits", version: 3, output }, null)).not.toHaveProperty("id");
  });

  test("describe a model with a free batch size", () => {
    const manifest = manifestOf([16, 10], { inputShape: [28, 28, 1] });
    expect(formatModelMetadata(placementOf({ manifest, cuts: [2], replicas: [[]], version: 3 }))).toEqual({
      name: "digits",
      versions: ["3"],
      platform: "ringfold",
      inputs: [{ name: "input", datatype: "FP32", shape: [-1, 28, 28, 1] }],
      outputs: [{ name: "output", datatype: "FP32", shape: [-1, 10] }],
    });
  });
});
