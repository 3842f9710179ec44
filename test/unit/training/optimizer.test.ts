import fc from "fast-check";
import { expect, test } from "vitest";
import { createOptimizer } from "../../../agent/training/optimizer.ts";
import { initialState, type TrainingState } from "../../../agent/training/training-state.ts";
import type { OptimizerSpec } from "../../../protocol/job-spec.ts";

const adam: OptimizerSpec = { kind: "adam", learningRate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
const sgd = (momentum: number): OptimizerSpec => ({ kind: "sgd", learningRate: 0.1, momentum });

/** Trains one parameter, from 1, over these gradients. */
function trajectory(spec: OptimizerSpec, gradients: readonly number[], rate = spec.learningRate) {
  const optimizer = createOptimizer(spec);
  const state = initialState(1, optimizer);
  state.parameters[0] = 1;
  return gradients.map((gradient) => {
    optimizer.apply(state, Float32Array.of(gradient), rate);
    return state.parameters[0]!;
  });
}
const gradientsArbitrary = fc.array(fc.float({ min: -10, max: 10, noNaN: true }), {
  minLength: 1,
  maxLength: 30,
});

test("plain descent steps against the gradient", () => {
  expect(trajectory(sgd(0), [2, -1])).toEqual([0.8, 0.9].map((value) => expect.closeTo(value, 6)));
});

test("momentum 0.5 by hand: velocities 2, 2, 0", () => {
  expect(trajectory(sgd(0.5), [2, 1, -1])).toEqual([0.8, 0.6, 0.6].map((value) => expect.closeTo(value, 6)));
});

test("Adam by hand: the first step is the learning rate, whatever the gradient's size", () => {
  for (const gradient of [1e-3, 1, 1e3]) {
    expect(trajectory(adam, [gradient])[0]).toBeCloseTo(0.9, 4);
    expect(trajectory(adam, [-gradient])[0]).toBeCloseTo(1.1, 4);
  }
});

test("Adam by hand: gradients 1 then 0", () => {
  // m = 0.1 then 0.09, v = 0.001 then 0.000999; corrected 1, 1 then 0.473684, 0.499750.
  expect(trajectory(adam, [1, 0])).toEqual(
    [0.9, 0.9 - (0.1 * 0.4736842) / Math.sqrt(0.4997499)].map((v) => expect.closeTo(v, 5)),
  );
});

test("Adam follows algorithm 1 of its paper, in double", () => {
  fc.assert(
    fc.property(gradientsArbitrary, (gradients) => {
      let [m, v, theta] = [0, 0, 1];
      const expected = gradients.map((g, i) => {
        const t = i + 1;
        m = 0.9 * m + 0.1 * g;
        v = 0.999 * v + 0.001 * g * g;
        theta -= (0.1 * (m / (1 - 0.9 ** t))) / (Math.sqrt(v / (1 - 0.999 ** t)) + 1e-8);
        return theta;
      });
      trajectory(adam, gradients).forEach((value, i) => {
        expect(value).toBeCloseTo(expected[i]!, 3);
      });
    }),
  );
});

test("momentum is the sum of decayed gradients", () => {
  fc.assert(
    fc.property(gradientsArbitrary, (gradients) => {
      let [velocity, theta] = [0, 1];
      const expected = gradients.map((g) => {
        velocity = 0.9 * velocity + g;
        theta -= 0.1 * velocity;
        return theta;
      });
      trajectory(sgd(0.9), gradients).forEach((value, i) => {
        expect(value).toBeCloseTo(expected[i]!, 2);
      });
    }),
  );
});

test.each([sgd(0), sgd(0.9), adam])("$kind: a state copied half-way goes on to the same bits", (spec) => {
  fc.assert(
    fc.property(gradientsArbitrary, fc.nat(30), (gradients, cut) => {
      const optimizer = createOptimizer(spec);
      const whole = initialState(1, optimizer);
      let copy: TrainingState = structuredClone(whole);
      gradients.forEach((gradient, i) => {
        if (i === cut) copy = structuredClone(whole);
        optimizer.apply(whole, Float32Array.of(gradient), 0.1);
        if (i >= cut) createOptimizer(spec).apply(copy, Float32Array.of(gradient), 0.1);
      });
      if (cut < gradients.length) expect(copy).toEqual(whole);
    }),
  );
});

test("the learning rate is that of the call, and parameters do not disturb each other", () => {
  const optimizer = createOptimizer(adam);
  const state = initialState(3, optimizer);
  optimizer.apply(state, Float32Array.of(1, 0, -1), 0.5);
  expect([...state.parameters]).toEqual([-0.5, 0, 0.5].map((value) => expect.closeTo(value, 5)));
});
