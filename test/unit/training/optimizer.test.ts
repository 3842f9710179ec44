import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { createOptimizer } from "../../../agent/training/optimizer.ts";
import { initialState, type TrainingState } from "../../../agent/training/training-state.ts";
import type { OptimizerSpec } from "../../../protocol/training-spec.ts";

const adam: OptimizerSpec = { kind: "adam", learningRate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
const sgd = (momentum: number, more: { nesterov?: boolean; weightDecay?: number } = {}): OptimizerSpec => ({
  ...{ kind: "sgd", learningRate: 0.1, momentum },
  ...more,
});
const adamw: OptimizerSpec = { ...adam, kind: "adamw", weightDecay: 0.5 };
const rmsprop = (momentum: number): OptimizerSpec => ({
  ...{ kind: "rmsprop", learningRate: 0.1, decay: 0.9, momentum, epsilon: 1e-8 },
});
/** One parameter that decays, as it is a kernel. */
const kernel = { name: "dense/kernel", shape: [1, 1], offset: 0, elementCount: 1 };

/** Trains one parameter, from 1, over these gradients. */
function trajectory(spec: OptimizerSpec, gradients: readonly number[], rate = spec.learningRate) {
  const optimizer = createOptimizer(spec, [kernel]);
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

test("Nesterov's momentum looks ahead: 1 + 0.5, then 1 + 0.75", () => {
  expect(trajectory(sgd(0.5, { nesterov: true }), [1, 1])).toEqual(
    [0.85, 0.675].map((value) => expect.closeTo(value, 6)),
  );
});

test("RMSProp by hand: mean squares 0.1 then 0.19", () => {
  const steps = [0.1 / Math.sqrt(0.1), 0.1 / Math.sqrt(0.19)] as const;
  expect(trajectory(rmsprop(0), [1, 1])).toEqual(
    [1 - steps[0], 1 - steps[0] - steps[1]].map((value) => expect.closeTo(value, 5)),
  );
  expect(trajectory(rmsprop(0.5), [1, 1])).toEqual(
    [1 - steps[0], 1 - 1.5 * steps[0] - steps[1]].map((value) => expect.closeTo(value, 5)),
  );
});

describe("weight decay", () => {
  test("of AdamW is taken off the weight, whatever the gradient: rate 0.1 times 0.5 of 1", () => {
    expect(trajectory(adamw, [0])[0]).toBeCloseTo(0.95, 6);
    expect(trajectory(adamw, [1e3])[0]).toBeCloseTo(0.85, 4);
  });

  test("of SGD is a part of the gradient, and goes through the momentum", () => {
    // gradients 0.5 then 0.5 * 0.95; velocities 0.5 then 0.25 + 0.475
    expect(trajectory(sgd(0.5, { weightDecay: 0.5 }), [0, 0])).toEqual(
      [0.95, 0.95 - 0.0725].map((value) => expect.closeTo(value, 6)),
    );
  });

  test.each([adamw, sgd(0, { weightDecay: 0.5 })])("$kind: spares biases and scales", (spec) => {
    const layout = [
      { name: "norm/gamma", shape: [2], offset: 0, elementCount: 2 },
      { ...kernel, offset: 2 },
      { name: "dense/bias", shape: [1], offset: 3, elementCount: 1 },
    ];
    const optimizer = createOptimizer(spec, layout);
    const state = initialState(4, optimizer);
    state.parameters.fill(1);
    optimizer.apply(state, new Float32Array(4), 0.1);
    expect([...state.parameters]).toEqual([1, 1, expect.closeTo(0.95, 6), 1]);
  });
});

const kinds = [sgd(0), sgd(0.9, { nesterov: true, weightDecay: 0.1 }), adam, adamw, rmsprop(0), rmsprop(0.9)];
test.each(kinds)("$kind: a state copied half-way goes on to the same bits", (spec) => {
  fc.assert(
    fc.property(gradientsArbitrary, fc.nat(30), (gradients, cut) => {
      const optimizer = createOptimizer(spec, [kernel]);
      const whole = initialState(1, optimizer);
      let copy: TrainingState = structuredClone(whole);
      gradients.forEach((gradient, i) => {
        if (i === cut) copy = structuredClone(whole);
        optimizer.apply(whole, Float32Array.of(gradient), 0.1);
        if (i >= cut) createOptimizer(spec, [kernel]).apply(copy, Float32Array.of(gradient), 0.1);
      });
      if (cut < gradients.length) expect(copy).toEqual(whole);
    }),
  );
});

test("the learning rate is that of the call, and parameters do not disturb each other", () => {
  const optimizer = createOptimizer(adam, [kernel]);
  const state = initialState(3, optimizer);
  optimizer.apply(state, Float32Array.of(1, 0, -1), 0.5);
  expect([...state.parameters]).toEqual([-0.5, 0, 0.5].map((value) => expect.closeTo(value, 5)));
});
