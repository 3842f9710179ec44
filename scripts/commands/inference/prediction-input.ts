import { createReadStream } from "node:fs";
import type { Readable } from "node:stream";
import { z } from "zod";
import { RingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import type { IndexRange } from "../arguments.ts";
import type { InferenceTensor } from "./open-inference.ts";

/** Examples to predict, with their labels where they are known. */
export interface PredictionInput extends InferenceTensor {
  readonly data: Float32Array;
  readonly labels?: Float32Array;
}

const requestSchema = z.object({
  inputs: z.tuple([z.object({ shape: z.array(z.number().int().positive()).min(1), data: z.unknown() })]),
});

/**
 * Reads examples from a JSON file or, for `-`, from stdin. Two forms are taken: nested arrays with the batch dimension
 * first, and a request of the Open Inference Protocol with one input.
 *
 * @throws RingfoldError FILE_NOT_FOUND | PAYLOAD_TOO_LARGE | REQUEST_INVALID
 */
export async function readPredictionInput(path: string, stdin: Readable): Promise<PredictionInput> {
  const text = await readBounded(path === "-" ? stdin : createReadStream(path), path);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : "";
    throw new RingfoldError("REQUEST_INVALID", `${path} is not JSON: ${reason}`, { path }, { cause });
  }
  const request = requestSchema.safeParse(value);
  const nested = request.success ? request.data.inputs[0].data : value;
  const shape = request.success ? request.data.inputs[0].shape : shapeOf(value);
  const data = flatten(nested, path);
  const elementCount = shape.reduce((product, size) => product * size, 1);
  if (data.length === 0 || elementCount !== data.length) {
    throw new RingfoldError(
      "REQUEST_INVALID",
      `${path}: shape [${shape.join(", ")}] needs ${elementCount} numbers, and there are ${data.length}`,
      { path },
    );
  }
  return { shape, data };
}

export async function readBounded(stream: Readable, path: string): Promise<string> {
  const pieces: Buffer[] = [];
  let bytes = 0;
  for await (const piece of stream as AsyncIterable<Buffer>) {
    bytes += piece.length;
    if (bytes > limits.predictBodyBytes) {
      throw new RingfoldError("PAYLOAD_TOO_LARGE", `${path}: more than ${limits.predictBodyBytes} bytes`, {
        bytesMax: limits.predictBodyBytes,
      });
    }
    pieces.push(piece);
  }
  return Buffer.concat(pieces).toString("utf8");
}

/** Down the first elements; flatten and the element count find whoever is not as long as its first sibling. */
function shapeOf(value: unknown): number[] {
  const shape: number[] = [];
  for (let inner = value; Array.isArray(inner); inner = inner[0]) shape.push(inner.length);
  return shape;
}

function flatten(value: unknown, path: string): Float32Array {
  const numbers: unknown[] = Array.isArray(value) ? value.flat(Number.POSITIVE_INFINITY) : [];
  const stranger = numbers.findIndex((element) => typeof element !== "number");
  if (numbers.length > 0 && stranger < 0) return Float32Array.from(numbers as number[]);
  const found = stranger < 0 ? "no array of numbers" : `${JSON.stringify(numbers[stranger])} at ${stranger}`;
  throw new RingfoldError(
    "REQUEST_INVALID",
    `${path} holds ${found}: give nested arrays of numbers, batch first`,
    {
      path,
    },
  );
}

/**
 * Images of the MNIST test set with their labels, shape [count, 28, 28, 1].
 * @throws RingfoldError USAGE when the range leaves the test set; FILE_NOT_FOUND | DATA_INVALID
 */
export async function readMnistTestImages({ first, last }: IndexRange): Promise<PredictionInput> {
  const { openDataset } = await import("../../../agent/data/dataset.ts");
  const { test, shape } = await openDataset({
    source: "mnist",
    trainExamples: 1,
    testExamples: last + 1,
  });
  if (last >= test.count) {
    throw new RingfoldError("USAGE", `--mnist-test: the test set has the images 0..${test.count - 1}`);
  }
  const count = last - first + 1;
  const data = new Float32Array(shape.inputShape.reduce((product, length) => product * length, count));
  const labels = new Float32Array(count);
  const indices = Array.from({ length: count }, (_, index) => first + index);
  test.gather(indices, data, labels);
  return { shape: [count, ...shape.inputShape], data, labels };
}
