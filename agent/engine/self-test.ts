import { modelOf } from "../models/library.ts";
import { openTrainableModel } from "./model.ts";
import type { ParameterSlot } from "./port.ts";
import type { Runtime } from "./runtime.ts";
import { type SelfTestCase, selfTestCases } from "./self-test-cases.ts";
import reference from "./self-test-reference.json" with { type: "json" };

type CaseName = keyof typeof selfTestCases;
const caseNames = Object.keys(selfTestCases) as CaseName[];

/** Of the largest number of a case. f32 in another order gives 1e-6; a wrong kernel gives 1e-1. */
const tolerance = 1e-4;

/** Loss and gradient of the fixed batch of each case, as one list each: what the reference holds. */
export async function selfTestNumbers(runtime: Runtime): Promise<Record<CaseName, number[]>> {
  const numbers = {} as Record<CaseName, number[]>;
  for (const name of caseNames) numbers[name] = (await compute(runtime, selfTestCases[name])).numbers;
  return numbers;
}

async function compute(
  runtime: Runtime,
  { topology, shape, inputs, labels }: SelfTestCase,
): Promise<{ readonly numbers: number[]; readonly layout: readonly ParameterSlot[] }> {
  const model = openTrainableModel(runtime, modelOf({ architecture: "layers", topology }, shape), 7);
  try {
    const gradient = new Float32Array(model.description.parameterCount);
    const batch = { exampleCount: labels.length, inputs, targets: labels };
    const { lossSum } = await model.gradient(batch, gradient);
    return { numbers: [lossSum, ...gradient], layout: model.layout };
  } finally {
    model.close();
  }
}

/**
 * Compares with the stored numbers of the cpu engine. The contract suite holds the file to what the cpu engine computes.
 * @throws Error with one sentence when the engine computes wrong, naming the tensor that is furthest off
 */
export async function selfTest(runtime: Runtime): Promise<void> {
  for (const name of caseNames) {
    const { numbers, layout } = await compute(runtime, selfTestCases[name]);
    const expected: readonly number[] = reference[name];
    const scale = expected.reduce((most, number) => Math.max(most, Math.abs(number)), 0);
    let [worst, at] = [0, 0];
    for (let i = 0; i < expected.length; i++) {
      const error = Math.abs(numbers[i]! - expected[i]!);
      // Written so that NaN is the worst.
      if (!(error <= worst)) [worst, at] = [error, i];
      if (Number.isNaN(error)) break;
    }
    if (worst <= tolerance * scale) continue;
    throw new Error(
      `self-test failed: ${whatIsAt(at, layout)} is off by ${worst.toPrecision(2)} of ${scale.toPrecision(2)}`,
    );
  }
}

/** The list begins with the loss. */
function whatIsAt(index: number, layout: readonly ParameterSlot[]): string {
  const slot = layout.find(({ offset, elementCount }) => index - 1 < offset + elementCount);
  return index === 0 || !slot ? "a loss" : `the gradient of ${slot.name}`;
}
