import type { Tensor, Tensor2D, Tensor3D } from "@tensorflow/tfjs";
import fc from "fast-check";
import { expect, it } from "vitest";
import { recurrent } from "../../agent/engine/recurrent.ts";
import type { Runtime } from "../../agent/engine/runtime.ts";
import { gruSchema, lstmSchema } from "../../agent/models/layers/recurrent.ts";
import { numbers, presentRuntimes, valuesOf } from "./engines.ts";

/** Recurrent layers of each runtime, forward and backward, against the cpu engine, which composes them place by place. */
const [cpu, ...others] = (await presentRuntimes()) as [Runtime, ...Runtime[]];
const tolerance = 1e-5;

interface Case {
  readonly cell: "LSTM" | "GRU";
  readonly resetAfter: boolean;
  readonly batch: number;
  readonly places: number;
  readonly width: number;
  readonly units: number;
  readonly goBackwards: boolean;
  readonly sequences: boolean;
  readonly biased: boolean;
  readonly activation: "tanh" | "relu";
  /** Places whose mask is 0, by a bit each, another for each row; none without a mask. */
  readonly hidden: number | null;
}

function layerOf(at: Case) {
  const config = {
    ...{ name: "layer", units: at.units, activation: at.activation, recurrent_activation: "sigmoid" },
    ...{ go_backwards: at.goBackwards, return_sequences: at.sequences, use_bias: at.biased },
  };
  return at.cell === "LSTM"
    ? ({ kind: "LSTM", config: lstmSchema.parse(config) } as const)
    : ({ kind: "GRU", config: gruSchema.parse({ ...config, reset_after: at.resetAfter }) } as const);
}

/** The result and the gradients of a weighted sum of it in x and each weight, as one list of arrays. */
async function valueAndGradients(runtime: Runtime, at: Case): Promise<Float32Array[]> {
  const { tf } = runtime;
  const columns = (at.cell === "LSTM" ? 4 : 3) * at.units;
  const random = (shape: number[], seed: number) =>
    tf.tensor(
      numbers(
        shape.reduce((product, length) => product * length, 1),
        seed,
      ),
      shape,
    );
  runtime.activate();
  const tensors = tf.tidy(() => {
    const mask = at.hidden === null ? null : (maskOf(tf, at, at.hidden) as Tensor2D);
    const biasShape = at.cell === "GRU" && at.resetAfter ? [2, columns] : [columns];
    const shapes = [
      [at.batch, at.places, at.width],
      [at.width, columns],
      [at.units, columns],
    ];
    if (at.biased) shapes.push(biasShape);
    const inputs = shapes.map((shape, i) => tf.mul(random(shape, 17 + i), 2));
    const compute = (...[x, kernel, recurrent_kernel, bias]: Tensor[]) => {
      const weights = { kernel: kernel!, recurrent_kernel: recurrent_kernel!, ...(bias ? { bias } : {}) };
      return recurrent(runtime, layerOf(at), weights, x as Tensor3D, mask);
    };
    const y = compute(...inputs);
    return [y, ...tf.grads(compute)(inputs, random(y.shape, 91))];
  });
  return valuesOf(runtime, tensors);
}

const maskOf = (tf: Runtime["tf"], { batch, places }: Case, hidden: number): Tensor =>
  tf.tensor(
    Float32Array.from({ length: batch * places }, (_, i) =>
      ((hidden * (i % 7)) >> (i % 5)) % 2 === 0 ? 1 : 0,
    ),
    [batch, places],
  );

const few = fc.integer({ min: 1, max: 5 });
const cases: fc.Arbitrary<Case> = fc.record({
  cell: fc.constantFrom("LSTM", "GRU"),
  resetAfter: fc.boolean(),
  batch: few,
  places: few,
  width: few,
  units: fc.integer({ min: 1, max: 21 }),
  goBackwards: fc.boolean(),
  sequences: fc.boolean(),
  biased: fc.boolean(),
  activation: fc.constantFrom("tanh", "tanh", "tanh", "relu"),
  hidden: fc.option(fc.nat(1_000)),
});

it.each(others.map((runtime) => [runtime.name, runtime] as const))(
  "%s goes along a sequence as the reference does, and back",
  async (_, runtime) => {
    const before = runtime.tf.memory().numTensors;
    await fc.assert(
      fc.asyncProperty(cases, async (at) => {
        const expected = await valueAndGradients(cpu, at);
        const actual = await valueAndGradients(runtime, at);
        expected.forEach((values, i) => {
          const scale = Math.max(1, ...values.map(Math.abs)); // a state may be next to zero
          const worst = Math.max(...values.map((each, j) => Math.abs(each - actual[i]![j]!)));
          expect(worst, i === 0 ? "value" : `gradient ${i}`).toBeLessThan(tolerance * scale);
        });
      }),
      { numRuns: 60 },
    );
    expect(runtime.tf.memory().numTensors).toBe(before);
  },
);
