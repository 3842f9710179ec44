import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type AdamArrays, type AdamNumbers, adamStepper } from "../../../agent/training/kernels/adam.ts";

/** The step in f32, operation by operation: what the kernel has to give to the bit. */
function reference(arrays: AdamArrays, numbers: AdamNumbers): void {
  const { fround, sqrt } = Math;
  const { parameters, gradient, firstMoment, secondMoment } = arrays;
  const [beta1, beta2, epsilon] = [fround(numbers.beta1), fround(numbers.beta2), fround(numbers.epsilon)];
  const [gain1, gain2] = [fround(1 - numbers.beta1), fround(1 - numbers.beta2)];
  const rate = fround(numbers.rate * numbers.correction1);
  const correction = fround(numbers.correction2);
  for (let i = 0; i < parameters.length; i++) {
    const g = fround(fround(numbers.share) * gradient[i]!);
    const m = fround(fround(beta1 * firstMoment[i]!) + fround(gain1 * g));
    const v = fround(fround(beta2 * secondMoment[i]!) + fround(fround(gain2 * g) * g));
    firstMoment[i] = m;
    secondMoment[i] = v;
    const divisor = fround(fround(sqrt(fround(v * correction))) + epsilon);
    parameters[i] = parameters[i]! - fround(fround(rate * m) / divisor);
  }
}

const bytes = (array: Float32Array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength);

describe("Adam's kernel", () => {
  const { step, newArrays } = adamStepper();
  const float = fc.float({ noNaN: true });
  const share = fc.double({ min: 0.5, max: 0.9999, noNaN: true });

  it("gives the bits of f32 arithmetic for any numbers, infinities and denormals too", () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(float, float, float, fc.float({ min: 0, noNaN: true })), {
          minLength: 1,
          maxLength: 40,
        }),
        fc.record({
          beta1: share,
          beta2: share,
          rate: fc.double({ min: 0, max: 1, noNaN: true }),
          correction1: fc.double({ min: 1, max: 100, noNaN: true }),
          correction2: fc.double({ min: 1, max: 10_000, noNaN: true }),
          epsilon: fc.constantFrom(0, 1e-8, 1e-3),
          share: fc.constantFrom(1, 1 / 3, 1 / 64),
        }),
        (rows, numbers) => {
          const column = (at: number) => Float32Array.from(rows, (row) => row[at]!);
          const arrays = () => ({
            parameters: column(0),
            gradient: column(1),
            firstMoment: column(2),
            secondMoment: column(3),
          });
          const [actual, expected] = [arrays(), arrays()];
          step(actual, numbers);
          reference(expected, numbers);
          // NaN of 0 / 0 may carry any payload: compared as numbers.
          expect(actual).toEqual(expected);
        },
      ),
      { numRuns: 300 },
    );
  });

  it.each([1, 4_095, 4_096, 4_097, 10_001])(
    "takes %d elements in blocks, its own arrays where they are",
    (count) => {
      const values = (seed: number) => Float32Array.from({ length: count }, (_, i) => Math.sin(i * 7 + seed));
      const arrays = () => ({
        parameters: values(1),
        gradient: values(2),
        firstMoment: values(3),
        secondMoment: values(4).map((value) => value * value),
      });
      const numbers = {
        beta1: 0.9,
        beta2: 0.999,
        rate: 1e-3,
        correction1: 10,
        correction2: 1_000,
        epsilon: 1e-8,
        share: 1 / 3,
      };
      const [elsewhere, atHome, expected] = [
        arrays(),
        { ...newArrays(count), gradient: values(2) },
        arrays(),
      ];
      for (const name of ["parameters", "firstMoment", "secondMoment"] as const)
        atHome[name].set(expected[name]);
      for (let i = 0; i < 3; i++) {
        step(elsewhere, numbers);
        step(atHome, numbers);
        reference(expected, numbers);
      }
      for (const name of ["parameters", "firstMoment", "secondMoment", "gradient"] as const) {
        expect(bytes(elsewhere[name]).equals(bytes(expected[name]))).toBe(true);
        expect(bytes(atHome[name]).equals(bytes(expected[name]))).toBe(true);
      }
    },
  );
});
