import type {
  Batch,
  BatchResult,
  ParameterSlot,
  StageGradients,
  StageInputs,
  StageModel,
} from "../../../agent/engine/port.ts";
import { cutIntoStages } from "../../../agent/training/stages/stage-cut.ts";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import type { LayerRange } from "../../../protocol/layer-cut.ts";
import type { ModelDescription } from "../../../protocol/messages/model.ts";
import { Randomness } from "../world/randomness.ts";
import type { LinearModelHooks } from "./linear-model.ts";

/** Of the layers' outputs, behind that of an example: tanh layers, and at the end the scores of the classes. */
const widths = [16, 5, 4, 3];
const layerCount = widths.length - 1;
const sizeOf = (layer: number) => (widths[layer]! + 1) * widths[layer + 1]!;

const description: ModelDescription = {
  topology: { kind: "perceptron" },
  inputShape: [4, 4, 1],
  outputShape: [widths.at(-1)!],
  parameterCount: Array.from({ length: layerCount }, (_, layer) => sizeOf(layer)).reduce((a, b) => a + b),
  layers: Array.from({ length: layerCount }, (_, layer) => ({
    ...{ name: `dense_${layer + 1}`, kind: "Dense", outputShape: [widths[layer + 1]!] },
    ...{ parameterCount: sizeOf(layer), multiplyAdds: sizeOf(layer) },
  })),
};

const layoutOf = ({ fromLayer, toLayer }: LayerRange): ParameterSlot[] => {
  let offset = 0;
  return Array.from({ length: toLayer - fromLayer }, (_, i) => {
    const layer = fromLayer + i;
    const shape = [widths[layer]! + 1, widths[layer + 1]!];
    const slot = { name: `dense_${layer + 1}/weights`, shape, offset, elementCount: sizeOf(layer) };
    offset += slot.elementCount;
    return slot;
  });
};

interface LayeredModelHooks extends Pick<LinearModelHooks, "compute" | "onWrite"> {
  /** The gradient of a micro-batch of this step was taken. */
  readonly onGradient: (step: number, examples: readonly number[]) => void;
}

/** One stage of a perceptron in plain arithmetic. */
export class LayeredStage implements StageModel {
  readonly description = description;
  readonly range: LayerRange;
  readonly layout: readonly ParameterSlot[];
  readonly wholeLayout = layoutOf({ fromLayer: 0, toLayer: layerCount });
  readonly learnsBefore: boolean;
  readonly inputSize: number;
  readonly outputSize: number;
  readonly #seed: number;
  readonly #hooks: LayeredModelHooks;
  #parameters: Float32Array;

  constructor(spec: JobSpec & { readonly stages: number }, stage: number, hooks: LayeredModelHooks) {
    this.range = cutIntoStages(spec, description)[stage]!;
    this.layout = layoutOf(this.range);
    this.learnsBefore = this.range.fromLayer > 0;
    this.inputSize = widths[this.range.fromLayer]!;
    this.outputSize = widths[this.range.toLayer]!;
    this.#seed = spec.seed;
    this.#hooks = hooks;
    this.#parameters = new Float32Array(this.layout.reduce((sum, { elementCount }) => sum + elementCount, 0));
    this.writeBeginning(this.#parameters);
  }

  writeBeginning(into: Float32Array): void {
    for (const [i, { offset, elementCount }] of this.layout.entries()) {
      const random = new Randomness(10 * this.#seed + this.range.fromLayer + i);
      for (let j = 0; j < elementCount; j++) into[offset + j] = random.real(-0.5, 0.5);
    }
  }

  async readParameters(into: Float32Array): Promise<void> {
    into.set(this.#parameters);
  }

  writeParameters(from: Float32Array): void {
    this.#parameters = from.slice();
    this.#hooks.onWrite();
  }

  async forward(batch: StageInputs): Promise<Float32Array> {
    const output = this.#run(batch).at(-1)!;
    await this.#hooks.compute();
    return output;
  }

  async backward(
    batch: StageInputs,
    { outputGradient }: { readonly outputGradient: Float32Array },
    into: StageGradients,
  ): Promise<void> {
    this.#noteGradient(batch);
    this.#back(this.#run(batch), outputGradient.slice(), batch.exampleCount, into);
    await this.#hooks.compute();
  }

  async gradient(batch: Batch, into: StageGradients): Promise<BatchResult> {
    this.#noteGradient(batch);
    const outputs = this.#run(batch);
    const { result, gradient } = crossEntropy(outputs.at(-1)!, batch);
    this.#back(outputs, gradient, batch.exampleCount, into);
    await this.#hooks.compute();
    return result;
  }

  async evaluate(batch: Batch): Promise<BatchResult> {
    const { result } = crossEntropy(this.#run(batch).at(-1)!, batch);
    await this.#hooks.compute();
    return result;
  }

  spare(): void {}
  close(): void {}

  #noteGradient({ step, examples }: StageInputs): void {
    this.#hooks.onGradient(step!, Array.from(examples!));
  }

  /** What came in, and what each layer makes of it. */
  #run({ exampleCount, inputs }: StageInputs): Float32Array[] {
    const outputs = [inputs.slice(0, exampleCount * this.inputSize)];
    for (const [i, slot] of this.layout.entries()) {
      const layer = this.range.fromLayer + i;
      const [rows, columns] = [widths[layer]!, widths[layer + 1]!];
      const input = outputs.at(-1)!;
      const output = new Float32Array(exampleCount * columns);
      for (let example = 0; example < exampleCount; example++)
        for (let column = 0; column < columns; column++) {
          let sum = this.#parameters[slot.offset + rows * columns + column]!;
          for (let row = 0; row < rows; row++)
            sum += input[example * rows + row]! * this.#parameters[slot.offset + row * columns + column]!;
          output[example * columns + column] = layer === layerCount - 1 ? sum : Math.tanh(sum);
        }
      outputs.push(output);
    }
    return outputs;
  }

  #back(
    outputs: readonly Float32Array[],
    top: Float32Array,
    exampleCount: number,
    into: StageGradients,
  ): void {
    into.parameters.fill(0);
    let gradient = top;
    for (let i = this.layout.length - 1; i >= 0; i--) {
      const { offset } = this.layout[i]!;
      const layer = this.range.fromLayer + i;
      const [rows, columns] = [widths[layer]!, widths[layer + 1]!];
      const [input, output] = [outputs[i]!, outputs[i + 1]!];
      const ofInput = new Float32Array(exampleCount * rows);
      for (let example = 0; example < exampleCount; example++)
        for (let column = 0; column < columns; column++) {
          const at = example * columns + column;
          const slope = layer === layerCount - 1 ? 1 : 1 - output[at]! ** 2;
          const error = gradient[at]! * slope;
          into.parameters[offset + rows * columns + column]! += error;
          for (let row = 0; row < rows; row++) {
            into.parameters[offset + row * columns + column]! += error * input[example * rows + row]!;
            ofInput[example * rows + row]! += error * this.#parameters[offset + row * columns + column]!;
          }
        }
      gradient = ofInput;
    }
    into.inputs?.set(gradient);
  }
}

/** Sums over the batch, and their gradient by the scores. */
function crossEntropy(scores: Float32Array, { exampleCount, targets }: Batch) {
  const classCount = widths.at(-1)!;
  const gradient = new Float32Array(scores.length);
  let [lossSum, correctCount] = [0, 0];
  for (let example = 0; example < exampleCount; example++) {
    const own = scores.subarray(example * classCount, (example + 1) * classCount);
    const highest = Math.max(...own);
    const powers = Array.from(own, (score) => Math.exp(score - highest));
    const total = powers.reduce((sum, power) => sum + power, 0);
    const label = targets[example]!;
    lossSum -= Math.log(powers[label]! / total);
    if (own[label] === highest) correctCount++;
    for (let c = 0; c < classCount; c++)
      gradient[example * classCount + c] = powers[c]! / total - (c === label ? 1 : 0);
  }
  return { result: { lossSum, correctCount, targetCount: exampleCount, lossWeight: exampleCount }, gradient };
}
