import { expect, test } from "vitest";
import { averaging, nesterov } from "../../../agent/training/synchronization/outer-optimizer.ts";
import { initialState } from "../../../agent/training/training-state.ts";

const changes = [Float32Array.of(1, -2), Float32Array.of(0.5, 0.25)];

test("averaging moves by the mean change", () => {
  const state = initialState(2, { ...averaging, scalars: {} });
  for (const change of changes) averaging.apply(state, change);
  expect(state.parameters).toEqual(Float32Array.of(1.5, -1.75));
  expect(state.slots).toEqual({});
});

test("Nesterov: v = m v + d, then rate (d + m v)", () => {
  const outer = nesterov({ outerLearningRate: 0.5, outerMomentum: 0.5 });
  const state = initialState(2, { ...outer, scalars: {} });
  outer.apply(state, changes[0]!);
  // v = d; moves by 0.5 (1 + 0.5) d
  expect(state.parameters).toEqual(Float32Array.of(0.75, -1.5));
  outer.apply(state, changes[1]!);
  // v = 0.5 * (1, -2) + (0.5, 0.25) = (1, -0.75); moves by 0.5 ((0.5, 0.25) + 0.5 v)
  expect(state.slots.outerVelocity).toEqual(Float32Array.of(1, -0.75));
  expect(state.parameters).toEqual(Float32Array.of(0.75 + 0.5, -1.5 - 0.0625));
});
