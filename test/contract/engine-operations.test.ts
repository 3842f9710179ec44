import type { Tensor, Tensor1D, Tensor2D, Tensor3D, Tensor4D } from "@tensorflow/tfjs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { spread } from "../../agent/engine/composed-operations.ts";
import { averagePool } from "../../agent/engine/image-layers.ts";
import type { AttentionOptions, Operations, Runtime, Tf } from "../../agent/engine/runtime.ts";
import { numbers, presentRuntimes, relativeError, valuesOf } from "./engines.ts";

/**
 * The operations of each runtime, forward and backward, against those that TF.js composes on the cpu engine. Shapes are
 * odd on purpose: the kernels work in lanes of four and tiles of eight.
 */
const [cpu, ...others] = (await presentRuntimes()) as [Runtime, ...Runtime[]];
const tolerance = 1e-4;
/** A software GPU compiles a shader for each shape. */
const runsOf = ({ name }: Runtime): number => (name === "webgpu" ? 5 : 40);

type Shape = readonly number[];
type Case = (operations: Operations, tf: Tf, inputs: Tensor[]) => Tensor;
const sizeOf = (shape: Shape) => shape.reduce((product, length) => product * length, 1);

const random = ({ tf }: Runtime, shape: Shape, seed: number) =>
  tf.tensor(numbers(sizeOf(shape), seed), [...shape]);
const inputsOf = (runtime: Runtime, shapes: readonly Shape[]) =>
  shapes.map((shape, i) => random(runtime, shape, 17 + i));

/** The result alone: not all that TF.js computes has a gradient. */
async function resultOf(runtime: Runtime, operation: Case, shapes: readonly Shape[]) {
  const { tf, operations } = runtime;
  runtime.activate();
  return valuesOf(runtime, [tf.tidy(() => operation(operations, tf, inputsOf(runtime, shapes)))]);
}

/** The result and the gradient of a weighted sum of it in each input, as one list of arrays. */
async function valueAndGradients(runtime: Runtime, operation: Case, shapes: readonly Shape[]) {
  const { tf, operations } = runtime;
  runtime.activate();
  const tensors = tf.tidy(() => {
    const inputs = inputsOf(runtime, shapes);
    const compute = (...each: Tensor[]) => operation(operations, tf, each);
    const y = compute(...inputs);
    return [y, ...tf.grads(compute)(inputs, random(runtime, y.shape, 91))];
  });
  return valuesOf(runtime, tensors);
}

async function expectAgreement(runtime: Runtime, operation: Case, shapes: readonly Shape[]): Promise<void> {
  const before = runtime.tf.memory().numTensors;
  const expected = await valueAndGradients(cpu, operation, shapes);
  const actual = await valueAndGradients(runtime, operation, shapes);
  expected.forEach((values, i) => {
    expect(relativeError(actual[i]!, values), i === 0 ? "value" : `gradient ${i}`).toBeLessThan(tolerance);
  });
  expect(runtime.tf.memory().numTensors).toBe(before);
}

const attend =
  (options: AttentionOptions, mask?: (tf: Tf) => Tensor2D): Case =>
  (operations, tf, inputs) => {
    const [q, k, v] = inputs as [Tensor3D, Tensor3D, Tensor3D];
    return operations.attention(q, k, v, { ...options, keyMask: mask?.(tf) ?? null });
  };
const plain = { heads: 2, causal: false, keyMask: null };
const causal = { ...plain, causal: true };
const padding = (tf: Tf) =>
  tf.tensor2d([
    [1, 1, 0, 1, 1],
    [0, 0, 0, 0, 0],
    [0, 1, 1, 1, 0],
  ]);

const dilated = { strides: [1, 1] as [number, number], dilations: [2, 3] as [number, number], relu: false };

const cases: Record<string, [readonly Shape[], Case]> = {
  "dense without bias": [
    [
      [5, 7],
      [7, 9],
    ],
    (o, _, [x, w]) => o.dense(x as Tensor2D, w as Tensor2D, null, true),
  ],
  "dense with bias": [
    [[5, 7], [7, 9], [9]],
    (o, _, [x, w, b]) => o.dense(x as Tensor2D, w as Tensor2D, b as Tensor1D, false),
  ],
  "conv2d with bias and ReLU": [
    [[2, 6, 5, 3], [3, 2, 3, 7], [7]],
    (o, _, [x, f, b]) =>
      o.conv2d(x as Tensor4D, f as Tensor4D, b as Tensor1D, { strides: [2, 1], padding: "same", relu: true }),
  ],
  "conv2d without bias": [
    [
      [2, 6, 5, 3],
      [3, 2, 3, 7],
    ],
    (o, _, [x, f]) =>
      o.conv2d(x as Tensor4D, f as Tensor4D, null, { strides: [1, 1], padding: "valid", relu: false }),
  ],
  "conv2d, dilated, same": [
    [
      [2, 9, 8, 3],
      [3, 2, 3, 5],
    ],
    (o, _, [x, f]) => o.conv2d(x as Tensor4D, f as Tensor4D, null, { ...dilated, padding: "same" }),
  ],
  "conv2d, dilated and strided, valid": [
    [[2, 11, 9, 3], [3, 3, 3, 5], [5]],
    (o, _, [x, f, b]) =>
      o.conv2d(x as Tensor4D, f as Tensor4D, b as Tensor1D, {
        ...dilated,
        strides: [2, 2],
        padding: "valid",
      }),
  ],
  "cross-entropy with rows that have no label": [
    [[5, 11]],
    (o, tf, [x]) => o.crossEntropy(x as Tensor2D, tf.tensor1d([3, -1, 10, 0, -1], "int32")).loss,
  ],
  "layer norm, width 1": [[[6, 1], [1]], (o, _, [x, g]) => o.layerNorm(x!, g as Tensor1D, null, 1e-3)],
  "layer norm, width 13": [
    [[3, 4, 13], [13], [13]],
    (o, _, [x, g, b]) => o.layerNorm(x!, g as Tensor1D, b as Tensor1D, 1e-3),
  ],
  "layer norm, shift only": [[[7, 8], [8]], (o, _, [x, b]) => o.layerNorm(x!, null, b as Tensor1D, 1e-5)],
  "layer norm far from zero": [[[9, 12]], (o, tf, [x]) => o.layerNorm(tf.add(x!, 100), null, null, 1e-5)],
  "batch norm of images": [
    [[3, 4, 5, 6], [6], [6]],
    (o, _, [x, g, b]) => o.batchNorm(x!, g as Tensor1D, b as Tensor1D, 1e-3).y,
  ],
  "batch norm of rows": [[[31, 5], [5]], (o, _, [x, g]) => o.batchNorm(x!, g as Tensor1D, null, 1e-3).y],
  "batch norm far from zero": [[[40, 9]], (o, tf, [x]) => o.batchNorm(tf.add(x!, 100), null, null, 1e-3).y],
  "gelu by erf": [[[7, 9]], (o, tf, [x]) => o.gelu(tf.mul(x!, 12), "erf")],
  "gelu by tanh": [[[7, 9]], (o, tf, [x]) => o.gelu(tf.mul(x!, 12), "tanh")],
  attention: [
    [
      [3, 5, 6],
      [3, 5, 6],
      [3, 5, 6],
    ],
    attend(plain),
  ],
  "attention, causal": [
    [
      [2, 9, 8],
      [2, 9, 8],
      [2, 9, 8],
    ],
    attend(causal),
  ],
  "attention across lengths": [
    [
      [2, 3, 10],
      [2, 7, 10],
      [2, 7, 10],
    ],
    attend(plain),
  ],
  "attention, causal across lengths": [
    [
      [2, 3, 10],
      [2, 7, 10],
      [2, 7, 10],
    ],
    attend(causal),
  ],
  "attention, causal, queries that see nothing": [
    [
      [2, 6, 4],
      [2, 4, 4],
      [2, 4, 4],
    ],
    attend(causal),
  ],
  "attention with padding": [
    [
      [3, 4, 6],
      [3, 5, 6],
      [3, 5, 6],
    ],
    attend(plain, padding),
  ],
  "attention, causal, with padding": [
    [
      [3, 5, 6],
      [3, 5, 6],
      [3, 5, 6],
    ],
    attend(causal, padding),
  ],
  "embedding of many the same": [
    [[6, 5]],
    (o, tf, [table]) =>
      o.embedding(
        table as Tensor2D,
        tf.tensor2d(
          [
            [5, 0, 0],
            [3, 3, 3],
          ],
          [2, 3],
          "int32",
        ),
      ),
  ],
};

describe.each(others.map((runtime) => [runtime.name, runtime] as const))("operations on %s", (_, runtime) => {
  it.each(Object.entries(cases))("%s", async (_name, [shapes, operation]) => {
    await expectAgreement(runtime, operation, shapes);
  });

  it("counts hits, rows without a label not", async () => {
    for (const each of [cpu, runtime]) {
      each.activate();
      const { tf, operations } = each;
      const into = new Float32Array(1);
      const correct = tf.tidy(() => {
        const logits = tf.tensor2d(
          [
            [3, 1],
            [1, 3],
            [2, 2],
            [2, 2],
            [5, 1],
          ],
          [5, 2],
        );
        return operations.crossEntropy(logits, tf.tensor1d([0, 0, 0, 1, -1], "int32")).correct;
      });
      await each.read([{ tensor: correct, into }]);
      correct.dispose();
      expect(into[0]).toBe(2);
    }
  });

  it("gives the mean and the variance of a batch", async () => {
    runtime.activate();
    const { tf, operations } = runtime;
    const [mean, variance] = tf.tidy(() => {
      const result = operations.batchNorm(
        tf.tensor2d([
          [1, 10],
          [2, 30],
          [6, 20],
        ]),
        null,
        null,
        1e-3,
      );
      return [result.mean, result.variance];
    });
    const into = [new Float32Array(2), new Float32Array(2)];
    await runtime.read([mean!, variance!].map((tensor, i) => ({ tensor, into: into[i]! })));
    tf.dispose([mean!, variance!]);
    expect(relativeError(into[0]!, [3, 20])).toBeLessThan(tolerance);
    expect(relativeError(into[1]!, [14 / 3, 200 / 3])).toBeLessThan(tolerance);
  });

  const window = fc.integer({ min: 1, max: 3 });
  const side = fc.integer({ min: 1, max: 13 });
  const dilatedImage = fc
    .record({
      image: fc.tuple(fc.integer({ min: 1, max: 3 }), side, side, fc.integer({ min: 1, max: 6 })),
      window: fc.tuple(window, window),
      dilations: fc.tuple(window, window),
      strides: fc.tuple(window, window),
      padding: fc.constantFrom("valid" as const, "same" as const),
    })
    .filter(({ image, window, dilations, padding }) => {
      const fits = (axis: 0 | 1) => (window[axis] - 1) * dilations[axis] + 1 <= image[axis + 1]!;
      return padding === "same" || (fits(0) && fits(1));
    });

  it("convolves with any dilation and stride, on negative values", async () => {
    await fc.assert(
      fc.asyncProperty(dilatedImage, window, fc.boolean(), async ({ image, window, ...of }, to, relu) => {
        const operation: Case = (o, tf, [x, f, b]) =>
          o.conv2d(tf.sub(x as Tensor4D, 0.5), f as Tensor4D, b as Tensor1D, { ...of, relu });
        await expectAgreement(runtime, operation, [image, [...window, image[3], to], [to]]);
      }),
      { numRuns: runsOf(runtime) },
    );
  });

  it("convolves each channel with any dilation and stride, on negative values", async () => {
    await fc.assert(
      fc.asyncProperty(dilatedImage, window, async ({ image, window, dilations, strides, padding }, to) => {
        const operation: Case = (_o, tf, [x, f]) =>
          tf.depthwiseConv2d(
            tf.sub(x as Tensor4D, 0.5),
            spread(tf, f as Tensor4D, dilations),
            strides,
            padding,
          );
        await expectAgreement(runtime, operation, [image, [...window, image[3], to]]);
      }),
      { numRuns: runsOf(runtime) },
    );
  });

  // The composed form makes holes in the filter; that they are at the right places, only another way can tell.
  it("convolves with dilation as TF.js's own forward pass does", async () => {
    await fc.assert(
      fc.asyncProperty(dilatedImage, window, async ({ image, window, dilations, padding }, to) => {
        const shapes = [image, [...window, image[3], to]];
        const ours: Case = (o, _tf, [x, f]) =>
          o.conv2d(x as Tensor4D, f as Tensor4D, null, { dilations, strides: [1, 1], padding, relu: false });
        const theirs: Case = (_o, tf, [x, f]) =>
          tf.conv2d(x as Tensor4D, f as Tensor4D, 1, padding, "NHWC", dilations);
        const [expected] = await resultOf(cpu, theirs, shapes);
        for (const each of [cpu, runtime])
          expect(relativeError((await resultOf(each, ours, shapes))[0]!, expected!)).toBeLessThan(tolerance);
      }),
      { numRuns: runsOf(runtime) },
    );
  });

  it("attends in any shape", async () => {
    const length = fc.integer({ min: 1, max: 9 });
    await fc.assert(
      fc.asyncProperty(
        fc.record({ batch: fc.integer({ min: 1, max: 3 }), queries: length, keys: length, heads: length }),
        length,
        fc.boolean(),
        async ({ batch, queries, keys, heads }, headWidth, causal) => {
          const [query, key] = [queries, keys].map((tokens) => [batch, tokens, heads * headWidth]);
          await expectAgreement(runtime, attend({ heads, causal, keyMask: null }), [query!, key!, key!]);
        },
      ),
      { numRuns: runsOf(runtime) },
    );
  });
});

/** Means over windows by their definition, and the gradient of a weighted sum of them. */
function meansByHand(
  { height, width, window, strides, padding }: Image,
  x: Float32Array,
  weights: (at: number) => number,
) {
  const along = (length: number, k: number, stride: number) => {
    const count = padding === "same" ? Math.ceil(length / stride) : Math.floor((length - k) / stride) + 1;
    const before = Math.floor(Math.max(0, (count - 1) * stride + k - length) / 2);
    return Array.from({ length: count }, (_, i) =>
      Array.from({ length: k }, (_, j) => i * stride - (padding === "same" ? before : 0) + j).filter(
        (at) => at >= 0 && at < length,
      ),
    );
  };
  const [means, gradient] = [[] as number[], new Float64Array(x.length)];
  for (const rows of along(height, window[0], strides[0])) {
    for (const columns of along(width, window[1], strides[1])) {
      const pixels = rows.flatMap((row) => columns.map((column) => row * width + column));
      const weight = weights(means.length);
      for (const pixel of pixels) gradient[pixel]! += weight / pixels.length;
      means.push(pixels.reduce((sum, pixel) => sum + x[pixel]!, 0) / pixels.length);
    }
  }
  return { means, gradient };
}
interface Image {
  readonly height: number;
  readonly width: number;
  readonly window: readonly [number, number];
  readonly strides: readonly [number, number];
  readonly padding: "valid" | "same";
}

describe.each([cpu, ...others])("means over windows on $name", (runtime) => {
  const side = fc.integer({ min: 1, max: 9 });
  const small = fc.integer({ min: 1, max: 4 });
  const images = fc
    .record({
      ...{ height: side, width: side, window: fc.tuple(small, small), strides: fc.tuple(small, small) },
      padding: fc.constantFrom("valid" as const, "same" as const),
    })
    .filter(
      ({ padding, window, height, width }) =>
        padding === "same" || (window[0] <= height && window[1] <= width),
    );

  it("are what their definition says, and so is their gradient, also at the border", async () => {
    await fc.assert(
      fc.asyncProperty(images, async (image) => {
        const shape = [1, image.height, image.width, 1];
        const pool: Case = (_operations, _tf, [x]) => averagePool(runtime, x as Tensor4D, image);
        const [means, gradient] = await valueAndGradients(runtime, pool, [shape]);
        const weights = numbers(means!.length, 91);
        const expected = meansByHand(image, numbers(sizeOf(shape), 17), (at) => weights[at]!);
        expect(relativeError(means!, expected.means)).toBeLessThan(tolerance);
        expect(relativeError(gradient!, expected.gradient)).toBeLessThan(tolerance);
      }),
      { numRuns: runsOf(runtime) },
    );
  });
});
