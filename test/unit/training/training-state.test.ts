import fc from "fast-check";
import { expect, test } from "vitest";
import type { ParameterSlot } from "../../../agent/engine/port.ts";
import { createOptimizer } from "../../../agent/training/optimizer.ts";
import {
  encodeState,
  encodeWeights,
  initialState,
  restoreState,
  type TrainingState,
  trainingPoint,
} from "../../../agent/training/training-state.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import { decodeSafetensors, encodeSafetensors } from "../../../protocol/safetensors.ts";
import type { OptimizerSpec } from "../../../protocol/training-spec.ts";

const layout: ParameterSlot[] = [
  { name: "dense/kernel", shape: [2, 2], offset: 0, elementCount: 4 },
  { name: "dense/bias", shape: [2], offset: 4, elementCount: 2 },
];
const specs: OptimizerSpec[] = [
  { kind: "adam", learningRate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-7 },
  { kind: "sgd", learningRate: 0.1, momentum: 0.9 },
  { kind: "sgd", learningRate: 0.1, momentum: 0 },
];

const bytesOf = ({ buffer, byteOffset, byteLength }: Float32Array) =>
  Buffer.from(buffer, byteOffset, byteLength);

/** A state some way into training. */
function trained(spec: OptimizerSpec, steps = 7, offset = 0): TrainingState {
  const optimizer = createOptimizer(spec, []);
  const state = initialState(6, optimizer);
  for (; state.step < steps; state.step++) {
    optimizer.apply(
      state,
      Float32Array.from({ length: 6 }, (_, i) => Math.fround((i - offset) / 3 + state.step)),
      0.1,
    );
  }
  return state;
}

test.each(specs)("$kind, momentum $momentum: everything comes back to the bit", (spec) => {
  const state = trained(spec);
  const restored = initialState(6, createOptimizer(spec, []));
  restoreState(restored, encodeState(state, layout), layout);
  expect(restored).toEqual(state);
  expect(bytesOf(restored.parameters)).toEqual(bytesOf(state.parameters));
});

test("scalars survive to the last bit", () => {
  fc.assert(
    fc.property(
      fc.double({ min: 0, max: 1, noNaN: true }).map((value) => value + 0),
      (value) => {
        const state = trained(specs[0]!);
        state.scalars.beta1Power = value;
        const restored = initialState(6, createOptimizer(specs[0]!, []));
        restoreState(restored, encodeState(state, layout), layout);
        expect(restored.scalars.beta1Power).toBe(value);
      },
    ),
  );
});

test("equal states are equal bytes: a checkpoint's digest is a comparison", () => {
  expect(encodeState(trained(specs[0]!), layout)).toEqual(encodeState(trained(specs[0]!), layout));
  expect(encodeState(trained(specs[0]!, 8), layout)).not.toEqual(encodeState(trained(specs[0]!, 7), layout));
});

test("the point is the step and a hash in which every bit of a parameter counts", () => {
  const state = trained(specs[0]!);
  const point = trainingPoint(state);
  expect(point).toEqual({ step: 7, hash: expect.stringMatching(/^[0-9a-f]{64}$/) });
  expect(trainingPoint(trained(specs[0]!))).toEqual(point);
  bytesOf(state.parameters)[23]! ^= 1;
  expect(trainingPoint(state).hash).not.toBe(point.hash);
});

test("the hash is of the parameters alone, wherever they lie in a buffer", () => {
  const state = trained(specs[0]!);
  const larger = new Float32Array(20).fill(3);
  larger.set(state.parameters, 5);
  const moved = { ...state, parameters: larger.subarray(5, 11), slots: {} };
  expect(trainingPoint(moved)).toEqual(trainingPoint(state));
});

test("weights hold the parameters under their names and nothing of the optimizer", () => {
  const state = trained(specs[0]!);
  const { tensors } = decodeSafetensors(encodeWeights(state, layout));
  expect(tensors.map(({ name, shape }) => ({ name, shape }))).toEqual(
    layout.map(({ name, shape }) => ({ name, shape })),
  );
  expect(tensors.flatMap(({ data }) => [...data])).toEqual([...state.parameters]);
});

const good = decodeSafetensors(encodeState(trained(specs[0]!, 9, 2), layout));
const without = (name: string) => good.tensors.filter((tensor) => tensor.name !== name);
const withMetadata = (changes: Record<string, string>) =>
  encodeSafetensors(good.tensors, { ...good.metadata, ...changes });

test.each([
  ["nothing", new Uint8Array(0)],
  ["only weights", encodeWeights(trained(specs[0]!), layout)],
  ["a tensor less", encodeSafetensors(without("dense/bias"), good.metadata)],
  ["an optimizer array less", encodeSafetensors(without("optimizer/firstMoment"), good.metadata)],
  ["another optimizer's state", encodeState(trained(specs[1]!), layout)],
  [
    "a tensor of another size",
    encodeSafetensors(
      [...without("dense/bias"), { name: "dense/bias", shape: [3], data: new Float32Array(3) }],
      good.metadata,
    ),
  ],
  ["no metadata", encodeSafetensors(good.tensors)],
  ["no step", withMetadata({ step: "" })],
  ["a negative step", withMetadata({ step: "-1" })],
  ["a fractional step", withMetadata({ step: "1.5" })],
  ["an infinite step", withMetadata({ step: "Infinity" })],
  ["scalars that are no JSON", withMetadata({ scalars: "{" })],
  ["scalars that are no object", withMetadata({ scalars: "null" })],
  ["scalars that are no numbers", withMetadata({ scalars: '{"beta1Power":"x","beta2Power":1}' })],
  ["too few scalars", withMetadata({ scalars: '{"beta1Power":1}' })],
  ["scalars that reach for the prototype", withMetadata({ scalars: '{"__proto__":{"beta1Power":1}}' })],
])("a checkpoint with %s is refused and leaves the state as it was", (_what, bytes) => {
  const state = trained(specs[0]!);
  const before = structuredClone(state);
  expect(() => restoreState(state, bytes, layout)).toThrow(
    expect.objectContaining({ code: "ARTEFACT_CORRUPT" }),
  );
  expect(state).toEqual(before);
  expect(Object.getPrototypeOf(state.scalars)).toBe(Object.prototype);
});

test("a checkpoint damaged anywhere is restored whole or refused without a trace", () => {
  const bytes = encodeState(trained(specs[0]!, 9, 2), layout);
  const edits = fc.array(fc.tuple(fc.nat(bytes.length - 1), fc.nat(255)), { minLength: 1, maxLength: 3 });
  fc.assert(
    fc.property(edits, fc.nat(bytes.length), (changes, length) => {
      const damaged = bytes.slice(0, length % 3 === 0 ? length : bytes.length);
      for (const [at, byte] of changes) if (at < damaged.length) damaged[at] = byte;
      const state = trained(specs[0]!);
      const before = structuredClone(state);
      try {
        restoreState(state, damaged, layout);
      } catch (error) {
        expect(error).toBeInstanceOf(RingfoldError);
        expect((error as RingfoldError).code).toBe("ARTEFACT_CORRUPT");
        expect(state).toEqual(before);
      }
    }),
    { numRuns: 500 },
  );
});
