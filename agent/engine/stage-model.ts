import assert from "node:assert/strict";
import type { Scalar, Tensor, Variable } from "@tensorflow/tfjs";
import { targetLength } from "../../protocol/data-schema.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import { type LayerRange, shapeAcross } from "../../protocol/layer-cut.ts";
import { plainObjective } from "../../protocol/objective.ts";
import { checkIds } from "../models/ids.ts";
import { writeInitialParameters } from "../models/initial-parameters.ts";
import type { Model } from "../models/library.ts";
import { parametersOf } from "../models/topology.ts";
import { Averages } from "./averages.ts";
import { differentiate, Kept } from "./differentiate.ts";
import { forward } from "./forward.ts";
import { countsOf, evaluateBatch } from "./judgement.ts";
import type { Training } from "./layer-run.ts";
import { type Aim, checkTargets, lossOf } from "./loss.ts";
import type {
  Batch,
  BatchResult,
  EvaluationResult,
  OpenStageOptions,
  ParameterSlot,
  StageGradients,
  StageInputs,
  StageModel,
} from "./port.ts";
import type { Runtime } from "./runtime.ts";
import { createWeights, layoutOf, readWeights, type WeightSet, writeWeights } from "./weights.ts";

/** Some layers of a model, which train on this runtime while others train the rest. */
export function openStageModel(runtime: Runtime, model: Model, of: StageOptions): StageModel {
  return new LayerStage(runtime, model, of);
}

type StageOptions = Pick<OpenStageOptions, "seed" | "begin" | "objective"> & { readonly range: LayerRange };

const sizeOf = (shape: readonly number[]) => shape.reduce((product, length) => product * length, 1);
const nothing: BatchResult = { lossSum: 0, targetCount: 0, lossWeight: 0, correctCount: 0 };

/** A number to differentiate, and what else is to be read when that is done. */
interface Differentiable {
  readonly value: Tensor;
  readonly also: readonly Tensor[];
}

class LayerStage implements StageModel {
  readonly description: StageModel["description"];
  readonly range: LayerRange;
  readonly inputSize: number;
  readonly outputSize: number;
  readonly #runtime: Runtime;
  readonly #model: Model;
  readonly #aim: Aim;
  readonly #seed: number;
  readonly #begin: StageOptions["begin"];
  readonly #inputShape: readonly number[];
  readonly #weights: WeightSet;
  /** Places in the layout, and the variables of the others that have a gradient. */
  #spared: ReadonlySet<number> = new Set();
  #trained: readonly Variable[];
  #isClosed = false;

  constructor(runtime: Runtime, model: Model, { range, seed, begin, objective }: StageOptions) {
    const { description, graph, target } = model;
    const { fromLayer, toLayer } = range;
    checkRange(model, range);
    const layers = graph.layers.slice(fromLayer, toLayer);
    this.#runtime = runtime;
    this.#model = model;
    this.#aim = { target, objective: objective ?? plainObjective(target) };
    this.#seed = seed;
    this.#begin = begin;
    this.description = description;
    this.range = range;
    this.#inputShape = shapeAcross(description, fromLayer);
    this.inputSize = sizeOf(this.#inputShape);
    this.outputSize = sizeOf(shapeAcross(description, toLayer));
    runtime.activate();
    const initial = new Float32Array(layers.reduce((count, layer) => count + parametersOf(layer), 0));
    this.writeBeginning(initial);
    this.#weights = createWeights(runtime, layers, initial);
    this.#trained = this.#weights.trained;
  }

  writeBeginning(into: Float32Array): void {
    const { fromLayer, toLayer } = this.range;
    const layers = this.#model.graph.layers.slice(fromLayer, toLayer);
    writeInitialParameters(layers, this.#seed, into, fromLayer);
    this.#begin?.({ layout: layoutOf(layers), wholeLayout: this.wholeLayout }, into);
  }

  get layout() {
    return this.#weights.layout;
  }

  get learnsBefore(): boolean {
    return layoutOf(this.#model.graph.layers.slice(0, this.range.fromLayer)).length > 0;
  }

  get wholeLayout() {
    return layoutOf(this.#model.graph.layers);
  }

  readParameters(into: Float32Array): Promise<void> {
    return readWeights(this.#runtime, this.#weights, into);
  }

  writeParameters(from: Float32Array): void {
    writeWeights(this.#runtime, this.#weights, from);
  }

  async forward(batch: StageInputs, purpose: "training" | "evaluation"): Promise<Float32Array> {
    assert(!this.#isLast, "the last stage goes on to the loss");
    const output = new Float32Array(batch.exampleCount * this.outputSize);
    if (batch.exampleCount === 0) return output;
    this.#check(batch);
    const { tf } = this.#runtime;
    // What the batch shows of running averages is taken on the way back, when it is computed again.
    const training = purpose === "training" ? this.#trainingOf(batch, () => {}) : undefined;
    const tensor = tf.tidy(() => this.#run(this.#inputsOf(batch), training));
    try {
      await this.#runtime.read([{ tensor, into: output }]);
    } finally {
      tensor.dispose();
    }
    return output;
  }

  async backward(
    batch: StageInputs,
    of: { readonly outputGradient: Float32Array; readonly lossWeight: number },
    into: StageGradients,
  ): Promise<void> {
    assert(!this.#isLast, "the gradient of the last stage begins at the loss");
    if (batch.exampleCount === 0) return void into.parameters.fill(0);
    // The first stage only reshapes, or all of it is spared: it has nothing to learn.
    if (!into.inputs && this.layout.every((_, i) => this.#spared.has(i))) return;
    this.#check(batch);
    const { tf } = this.#runtime;
    const outputGradient = of.outputGradient.subarray(0, batch.exampleCount * this.outputSize);
    // The gradient of a sum of products is the other factor, to the bit.
    const weigh = (output: Tensor): Differentiable => ({
      value: tf.sum(tf.mul(output, tf.tensor(outputGradient, output.shape))),
      also: [],
    });
    await this.#differentiate(batch, into, weigh, []);
    this.#scaleAverages(into.parameters, of.lossWeight);
  }

  async gradient(batch: Batch, into: StageGradients): Promise<BatchResult> {
    this.#checkTargets(batch);
    if (batch.exampleCount === 0) {
      into.parameters.fill(0);
      return nothing;
    }
    this.#check(batch);
    const [lossSum, correctCount] = [new Float32Array(1), new Float32Array(1)];
    const loss = (output: Tensor): Differentiable => {
      const { loss: value, correct } = lossOf(this.#runtime, this.#aim, output, this.#targetsOf(batch));
      return { value, also: [correct] };
    };
    await this.#differentiate(batch, into, loss, [lossSum, correctCount]);
    const counts = countsOf(this.#aim, this.#targetsOf(batch));
    this.#scaleAverages(into.parameters, counts.lossWeight);
    return { lossSum: lossSum[0]!, ...counts, correctCount: Math.round(correctCount[0]!) };
  }

  async evaluate(batch: Batch, details = false): Promise<EvaluationResult> {
    this.#checkTargets(batch);
    if (batch.exampleCount === 0) return nothing;
    this.#check(batch);
    const bareOf = () => this.#run(this.#inputsOf(batch), undefined);
    return evaluateBatch(this.#runtime, this.#aim, { bareOf, targets: this.#targetsOf(batch), details });
  }

  spare(isSpared: (slot: ParameterSlot) => boolean): void {
    const { layout, variables } = this.#weights;
    this.#spared = new Set(layout.flatMap((slot, i) => (isSpared(slot) && !slot.isAverage ? [i] : [])));
    this.#trained = variables.filter(({ trainable }, i) => trainable && !this.#spared.has(i));
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#weights.dispose();
  }

  get #isLast(): boolean {
    return this.range.toLayer === this.#model.graph.layers.length;
  }

  /**
   * Runs the layers, makes a number of what they put out, and leaves its gradients.
   * @param values where the number and `also` are left, in order; empty where nobody asks
   */
  async #differentiate(
    batch: StageInputs,
    into: StageGradients,
    top: (output: Tensor) => Differentiable,
    values: readonly Float32Array[],
  ): Promise<void> {
    const { tf } = this.#runtime;
    const { variables, layout } = this.#weights;
    const kept = new Kept(tf);
    const averages = new Averages(this.#runtime, this.#weights, kept);
    const training = this.#trainingOf(batch, averages.observe);
    const inputs = this.#inputsOf(batch);
    // Differentiated like a weight: TF.js gives gradients of several kinds only by way of variables.
    const x: Variable | undefined = into.inputs && tf.variable(inputs);
    const asked = x ? [...this.#trained, x] : [...this.#trained];
    try {
      const { numbers, grads } = tf.tidy(() => {
        let also: readonly Tensor[] = [];
        const run = () => {
          const number = top(this.#run(x ?? inputs, training, inputs));
          also = number.also.map((tensor) => kept.keep(tensor));
          return number.value as Scalar;
        };
        const { value, grads } = differentiate(tf, kept, run, asked);
        return { numbers: [value, ...also], grads };
      });
      const gradients = variables.flatMap(({ name }, i) => {
        if (this.#spared.has(i)) return [];
        const { offset, elementCount } = layout[i]!;
        const tensor = grads[name] ?? averages.changeOf(i);
        return [{ tensor, into: into.parameters.subarray(offset, offset + elementCount) }];
      });
      if (x) {
        const ofInputs = into.inputs!.subarray(0, batch.exampleCount * this.inputSize);
        gradients.push({ tensor: grads[x.name]!, into: ofInputs });
      }
      const told = values.map((array, i) => ({ tensor: numbers[i]!, into: array }));
      try {
        await this.#runtime.read([...told, ...gradients]);
      } finally {
        tf.dispose([...numbers, ...gradients.map(({ tensor }) => tensor)]);
      }
    } finally {
      x?.dispose();
      inputs.dispose();
    }
  }

  #run(x: Tensor, training: Training | undefined, rows = x): Tensor {
    const run = { graph: this.#model.graph, ...this.range, weights: this.#weights.byLayer };
    return forward(this.#runtime, run, x, { ending: "bare", training, rows });
  }

  #inputsOf({ exampleCount, inputs }: StageInputs): Tensor {
    const values = inputs.subarray(0, exampleCount * this.inputSize);
    return this.#runtime.tf.tensor(values, [exampleCount, ...this.#inputShape]);
  }

  #trainingOf({ exampleCount, step = 0, examples }: StageInputs, observe: Training["observe"]): Training {
    const rows = examples ?? Uint32Array.from({ length: exampleCount }, (_, i) => i);
    return { seed: this.#seed, step, examples: rows, observe };
  }

  #targetsOf({ exampleCount, targets }: Batch): Float32Array {
    return targets.subarray(0, exampleCount * targetLength(this.#model.target));
  }

  /** Running averages move with the weight of the targets. */
  #scaleAverages(gradient: Float32Array, lossWeight: number): void {
    for (const { isAverage, offset, elementCount } of this.layout) {
      if (!isAverage) continue;
      for (let i = offset; i < offset + elementCount; i++) gradient[i]! *= lossWeight;
    }
  }

  /** @throws RingfoldError DATA_INVALID */
  #check({ exampleCount, inputs }: StageInputs): void {
    assert(!this.#isClosed, "the stage is open");
    assert(inputs.length >= exampleCount * this.inputSize, "inputs hold the batch");
    this.#runtime.activate();
    if (this.range.fromLayer > 0) return;
    const rows = inputs.subarray(0, exampleCount * this.inputSize);
    checkIds(this.#model.graph, rows, exampleCount, "DATA_INVALID");
  }

  /** @throws RingfoldError DATA_INVALID */
  #checkTargets(batch: Batch): void {
    assert(this.#isLast, "only the last stage knows the loss");
    assert(batch.targets.length >= batch.exampleCount * targetLength(this.#model.target));
    checkTargets(this.#model.target, this.#targetsOf(batch));
  }
}

/** @throws RingfoldError JOB_INVALID */
function checkRange({ graph: { layers } }: Model, { fromLayer, toLayer }: LayerRange): void {
  if (0 <= fromLayer && fromLayer < toLayer && toLayer <= layers.length) return;
  const message = `layers ${fromLayer} to ${toLayer} are no stage of a model with ${layers.length} layers`;
  throw new RingfoldError("JOB_INVALID", message, { fromLayer, toLayer });
}
