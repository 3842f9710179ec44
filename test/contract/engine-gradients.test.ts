import * as tf from "@tensorflow/tfjs";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { numbers, presentEngines, relativeError } from "./engines.ts";

/**
 * Every operation that training uses, forward and backward, on each engine against the cpu engine. The wasm kernels of
 * TF.js are wrong or missing for some of these; this is the list that holds ours to the truth.
 */
const engines = await presentEngines();
const others = engines.slice(1).map((engine) => engine.name);
afterAll(() => {
  for (const engine of engines) engine.close();
});

const tolerance = 1e-4;
/** A software GPU compiles a shader for each shape. */
const runsOf = (backend: string): number => (backend === "webgpu" ? 5 : 60);
type Operation = (...inputs: tf.Tensor[]) => tf.Tensor;
type Shape = number[];

/** Numbers of both signs. `random(shape, seed)` is a constant of an operation, the same on each engine. */
const sizeOf = (shape: Shape) => shape.reduce((product, length) => product * length, 1);
const random = (shape: Shape, seed: number) => tf.tensor(numbers(sizeOf(shape), seed), shape);

/** The result and the gradient of a weighted sum of it in each input, as one list of arrays. */
async function valueAndGradients(backend: string, operation: Operation, shapes: readonly Shape[]) {
  await tf.setBackend(backend);
  const tensors = tf.tidy(() => {
    const inputs = shapes.map((shape, i) => random(shape, 17 + i));
    const y = operation(...inputs);
    const grads = tf.grads(operation)(inputs, random(y.shape, 91));
    return [y, ...grads];
  });
  const arrays = await Promise.all(tensors.map((tensor) => tensor.data()));
  tf.dispose(tensors);
  return arrays;
}

async function expectAgreement(
  backend: string,
  operation: Operation,
  shapes: readonly Shape[],
): Promise<void> {
  const before = tf.memory().numTensors;
  const expected = await valueAndGradients("cpu", operation, shapes);
  const actual = await valueAndGradients(backend, operation, shapes);
  expect(actual.map(({ length }) => length)).toEqual(expected.map(({ length }) => length));
  expected.forEach((values, i) => {
    expect(relativeError(actual[i]!, values), i === 0 ? "value" : `gradient ${i}`).toBeLessThan(tolerance);
  });
  expect(tf.memory().numTensors).toBe(before);
}

const x4 = (t: tf.Tensor | undefined) => t as tf.Tensor4D;
const cases: Record<string, [Shape[], Operation]> = {
  "maxPool of negative values": [[[4, 10, 10, 6]], (x) => tf.maxPool(x4(tf.sub(x!, 3)), 2, 2, "valid")],
  "maxPool, overlapping, same, odd": [[[2, 7, 9, 5]], (x) => tf.maxPool(x4(x), 3, 2, "same")],
  "maxPool, ties": [[[2, 6, 6, 4]], (x) => tf.maxPool(x4(tf.relu(x!)), 2, 2, "valid")],
  // With `same` TF.js's gradient is wrong at the border: engine-operations.test.ts has ours.
  "avgPool, overlapping, odd": [[[4, 9, 9, 6]], (x) => tf.avgPool(x4(x), 3, 2, "valid")],
  "conv2d, fused relu": [
    [[3, 8, 7, 3], [3, 3, 3, 6], [6]],
    (x, filter, bias) =>
      tf.fused.conv2d({
        x: x4(x),
        filter: x4(filter),
        bias: bias!,
        strides: 1,
        pad: "same",
        activation: "relu",
      }),
  ],
  "conv2d, explicit padding": [
    [
      [2, 6, 5, 2],
      [3, 2, 2, 4],
    ],
    (x, filter) =>
      tf.conv2d(
        x4(x),
        x4(filter),
        [1, 2],
        [
          [0, 0],
          [2, 1],
          [0, 1],
          [0, 0],
        ],
      ),
  ],
  conv2dTranspose: [
    [
      [2, 5, 4, 3],
      [3, 3, 5, 3],
    ],
    (x, filter) => tf.conv2dTranspose(x4(x), x4(filter), [2, 10, 8, 5], 2, "same"),
  ],
  "depthwiseConv2d, multiplier 2": [
    [
      [2, 5, 6, 3],
      [3, 2, 3, 2],
    ],
    (x, filter) => tf.depthwiseConv2d(x4(x), x4(filter), [2, 2], "same"),
  ],
  "depthwiseConv2d, valid": [
    [
      [1, 7, 8, 4],
      [2, 3, 4, 1],
    ],
    (x, filter) => tf.depthwiseConv2d(x4(x), x4(filter), 1, "valid"),
  ],
  "depthwiseConv2d, one filter a channel, odd": [
    [
      [2, 7, 6, 7],
      [3, 3, 7, 1],
    ],
    (x, filter) => tf.depthwiseConv2d(x4(x), x4(filter), [2, 1], "same"),
  ],
  // TF.js has no gradient of a dilated convolution: a constant.
  "conv2d, dilated": [
    [[1]],
    (a) =>
      tf.mul(tf.conv2d(x4(random([2, 9, 8, 3], 5)), x4(random([3, 2, 3, 5], 6)), 1, "same", "NHWC", 2), a!),
  ],
  // TF.js has no gradient of a broadcast batch: constants.
  "matMul, batched by one": [[[1]], (a) => tf.mul(tf.matMul(random([3, 6, 4], 5), random([1, 4, 5], 6)), a!)],
  "fused matMul, elu": [
    [[8, 6], [6, 4], [4]],
    (a, b, bias) => tf.fused.matMul({ a: a!, b: b!, bias: bias!, activation: "elu" }),
  ],
  "sum of the middle axis": [[[3, 4, 5]], (x) => tf.sum(x!, 1)],
  "sum of leading axes, kept": [[[3, 4, 5]], (x) => tf.sum(x!, [0, 1], true)],
  "sum of everything": [[[7, 11]], (x) => tf.sum(x!)],
  "mean over a long column": [[[1000, 3]], (x) => tf.mean(x!, 0)],
  softmax: [[[5, 7]], (x) => tf.softmax(tf.mul(x!, 30))],
  logSoftmax: [[[5, 7]], (x) => tf.logSoftmax(tf.mul(x!, 30))],
  exp: [[[63]], (x) => tf.exp(tf.mul(x!, 20))],
  "gather of rows": [[[6, 5]], (x) => tf.gather(x!, tf.tensor1d([5, 0, 0, 3], "int32"))],
  unsortedSegmentSum: [[[4, 5]], (x) => tf.unsortedSegmentSum(x!, tf.tensor1d([2, 0, 2, -1], "int32"), 4)],
  "moments, as layer norm takes them": [[[6, 9]], (x) => tf.moments(x!, -1).variance],
  "identity and cast": [[[6, 9]], (x) => tf.cast(tf.clone(x!), "float32")],
};

/** What no layer needs, and a backend lacks. */
const lacking: Record<string, readonly string[]> = { tensorflow: ["conv2d, explicit padding"] };

describe.each(others)("gradients on %s", (backend) => {
  const present = Object.entries(cases).filter(([name]) => !lacking[backend]?.includes(name));
  it.each(present)("%s", async (_name, [shapes, operation]) => {
    await expectAgreement(backend, operation, shapes);
  });

  const side = fc.integer({ min: 1, max: 9 });
  const window = fc.integer({ min: 1, max: 4 });
  const stride = fc.integer({ min: 1, max: 3 });
  const channels = fc.integer({ min: 1, max: 9 });
  const image = fc.record({
    batch: fc.integer({ min: 1, max: 3 }),
    height: side,
    width: side,
    channels,
    window: fc.tuple(window, window),
    strides: fc.tuple(stride, stride),
    padding: fc.constantFrom("valid" as const, "same" as const),
  });
  const fits = (i: { height: number; width: number; window: [number, number]; padding: string }) =>
    i.padding === "same" || (i.window[0] <= i.height && i.window[1] <= i.width);

  it("conv2d of any geometry", async () => {
    await fc.assert(
      fc.asyncProperty(image.filter(fits), channels, async (i, outChannels) => {
        const shapes = [
          [i.batch, i.height, i.width, i.channels],
          [...i.window, i.channels, outChannels],
        ];
        await expectAgreement(backend, (x, f) => tf.conv2d(x4(x), x4(f), i.strides, i.padding), shapes);
      }),
      { numRuns: 40 },
    );
  });

  it("maxPool of any geometry, on negative values", async () => {
    await fc.assert(
      fc.asyncProperty(image.filter(fits), async (i) => {
        const shapes = [[i.batch, i.height, i.width, i.channels]];
        const pool: Operation = (x) => tf.maxPool(x4(tf.sub(x!, 1)), i.window, i.strides, i.padding);
        await expectAgreement(backend, pool, shapes);
      }),
      { numRuns: 40 },
    );
  });

  it("avgPool of any geometry, on negative values", async () => {
    await fc.assert(
      fc.asyncProperty(
        image.filter((i) => fits({ ...i, padding: "valid" })),
        async (i) => {
          const shapes = [[i.batch, i.height, i.width, i.channels]];
          const pool: Operation = (x) => tf.avgPool(x4(tf.sub(x!, 1)), i.window, i.strides, "valid");
          await expectAgreement(backend, pool, shapes);
        },
      ),
      { numRuns: runsOf(backend) },
    );
  });

  it("depthwiseConv2d of any geometry and multiplier, on negative values", async () => {
    await fc.assert(
      fc.asyncProperty(image.filter(fits), fc.integer({ min: 1, max: 3 }), async (i, multiplier) => {
        const shapes = [
          [i.batch, i.height, i.width, i.channels],
          [...i.window, i.channels, multiplier],
        ];
        const convolve: Operation = (x, f) =>
          tf.depthwiseConv2d(x4(tf.sub(x!, 1)), x4(f), i.strides, i.padding);
        await expectAgreement(backend, convolve, shapes);
      }),
      { numRuns: runsOf(backend) },
    );
  });

  it("matMul of any shape and transposition", async () => {
    const length = fc.integer({ min: 1, max: 40 });
    await fc.assert(
      fc.asyncProperty(
        length,
        length,
        length,
        fc.boolean(),
        fc.boolean(),
        window,
        async (m, k, n, ta, tb, batch) => {
          const shapes = [
            [batch, ...(ta ? [k, m] : [m, k])],
            [batch, ...(tb ? [n, k] : [k, n])],
          ];
          await expectAgreement(backend, (a, b) => tf.matMul(a!, b!, ta, tb), shapes);
        },
      ),
      { numRuns: 40 },
    );
  });
});
