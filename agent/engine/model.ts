import assert from "node:assert/strict";
import type { Scalar, Tensor } from "@tensorflow/tfjs";
import { targetLength } from "../../protocol/data-schema.ts";
import { plainObjective } from "../../protocol/objective.ts";
import { checkIds } from "../models/ids.ts";
import { writeInitialParameters } from "../models/initial-parameters.ts";
import type { Model } from "../models/library.ts";
import { Averages } from "./averages.ts";
import { differentiate, Kept } from "./differentiate.ts";
import { forward } from "./forward.ts";
import { FinalMark, tapGradients } from "./gradient-tap.ts";
import { countsOf, evaluateBatch } from "./judgement.ts";
import type { LayerWeights, Training } from "./layer-run.ts";
import { type Aim, checkTargets, type Loss, lossOf } from "./loss.ts";
import type { Batch, BatchResult, EvaluationResult, TrainableModel } from "./port.ts";
import type { Runtime } from "./runtime.ts";
import { createWeights, readWeights, writeWeights } from "./weights.ts";

type ReadNow = NonNullable<Runtime["readNow"]>;

/** A model that trains, on one runtime. */
export function openTrainableModel(
  runtime: Runtime,
  { description, graph, target }: Model,
  seed: number,
  objective = plainObjective(target),
): TrainableModel {
  const aim: Aim = { target, objective };
  const { tf } = runtime;
  const { inputShape, parameterCount } = description;
  const inputSize = inputShape.reduce((product, length) => product * length, 1);

  runtime.activate();
  const initial = new Float32Array(parameterCount);
  writeInitialParameters(graph.layers, seed, initial);
  const weights = createWeights(runtime, graph.layers, initial);
  const run = { graph, fromLayer: 0, toLayer: graph.layers.length };
  const nothing: BatchResult = { lossSum: 0, targetCount: 0, lossWeight: 0, correctCount: 0 };
  let isClosed = false;
  /** Places in the layout, and the variables of the others that have a gradient. */
  let spared: ReadonlySet<number> = new Set();
  let trained = [...weights.trained];

  /** @throws RingfoldError DATA_INVALID */
  function checkBatch({ exampleCount, inputs, targets }: Batch): void {
    assert(!isClosed, "the model is open");
    assert(inputs.length >= exampleCount * inputSize, "inputs hold the batch");
    assert(targets.length >= exampleCount * targetLength(target), "targets hold the batch");
    checkTargets(target, targets.subarray(0, exampleCount * targetLength(target)));
    checkIds(graph, inputs.subarray(0, exampleCount * inputSize), exampleCount, "DATA_INVALID");
  }

  const targetsOf = ({ exampleCount, targets }: Batch) =>
    targets.subarray(0, exampleCount * targetLength(target));

  /** What the model puts out of a batch, without its ending; a tensor of the running tidy. */
  function bareOf({ exampleCount, inputs }: Batch, training?: Training, tapped = weights.byLayer): Tensor {
    const x = tf.tensor(inputs.subarray(0, exampleCount * inputSize), [exampleCount, ...inputShape]);
    return forward(runtime, { ...run, weights: tapped }, x, { ending: "bare", training });
  }

  /** Weights whose gradients are read the moment they are complete. */
  function readEarly(
    into: Float32Array,
    { onFinal, readNow }: { readonly onFinal: (start: number) => void; readonly readNow: ReadNow },
  ): readonly LayerWeights[] {
    const mark = new FinalMark(weights.layout);
    return tapGradients(tf, weights, (index, gradient) => {
      const { offset, elementCount } = weights.layout[index]!;
      readNow(gradient, into.subarray(offset, offset + elementCount));
      const start = mark.note(index);
      if (start !== undefined) onFinal(start);
    });
  }

  /** Reads results of a tidy, then frees them. */
  async function collect(
    batch: Batch,
    { loss: lossTensor, correct }: Loss,
    more: readonly { readonly tensor: Tensor; readonly into: Float32Array }[],
  ): Promise<BatchResult> {
    const [lossSum, correctCount] = [new Float32Array(1), new Float32Array(1)];
    const sums = [
      { tensor: lossTensor, into: lossSum },
      { tensor: correct, into: correctCount },
    ];
    try {
      await runtime.read([...sums, ...more]);
    } finally {
      tf.dispose([...sums, ...more].map(({ tensor }) => tensor));
    }
    const counts = countsOf(aim, targetsOf(batch));
    return { lossSum: lossSum[0]!, ...counts, correctCount: Math.round(correctCount[0]!) };
  }

  return {
    description,
    layout: weights.layout,

    async readParameters(into) {
      await readWeights(runtime, weights, into);
    },

    writeParameters(from) {
      writeWeights(runtime, weights, from);
    },

    async gradient(batch, gradient, onFinal) {
      assert.equal(gradient.length, parameterCount);
      checkBatch(batch);
      if (batch.exampleCount === 0) {
        gradient.fill(0);
        return nothing;
      }
      runtime.activate();
      const kept = new Kept(tf);
      const averages = new Averages(runtime, weights, kept);
      // Running averages stand among the parameters and have no gradient: with them nothing is said early.
      const { readNow } = runtime;
      const hasAverages = weights.trained.length < weights.variables.length;
      const isEarly = onFinal !== undefined && readNow !== undefined && !hasAverages && spared.size === 0;
      const tapped = isEarly ? readEarly(gradient, { onFinal, readNow }) : weights.byLayer;
      const { result, gradients } = tf.tidy(() => {
        let correct: Tensor | undefined;
        const { step = 0, examples = range(batch.exampleCount) } = batch;
        const training = { seed, step, examples, observe: averages.observe };
        const lossOfBatch = () => {
          const parts = lossOf(runtime, aim, bareOf(batch, training, tapped), targetsOf(batch));
          correct = kept.keep(parts.correct);
          return parts.loss as Scalar;
        };
        const { value, grads } = differentiate(tf, kept, lossOfBatch, trained);
        return {
          result: { loss: value, correct: correct! },
          gradients: weights.variables.map(({ name }) => grads[name]),
        };
      });
      if (isEarly) {
        tf.dispose(gradients.filter((tensor) => tensor !== undefined));
        return collect(batch, result, []);
      }
      const parts = gradients.flatMap((tensor, i) => {
        if (spared.has(i)) return [];
        const { offset, elementCount } = weights.layout[i]!;
        const into = gradient.subarray(offset, offset + elementCount);
        return [{ tensor: tensor ?? averages.changeOf(i), into }];
      });
      const sums = await collect(batch, result, parts);
      weights.layout.forEach(({ isAverage, offset, elementCount }) => {
        if (!isAverage) return;
        for (let i = offset; i < offset + elementCount; i++) gradient[i]! *= sums.lossWeight;
      });
      return sums;
    },

    spare(isSpared) {
      const { layout, variables } = weights;
      spared = new Set(layout.flatMap((slot, i) => (isSpared(slot) && !slot.isAverage ? [i] : [])));
      trained = variables.filter(({ trainable }, i) => trainable && !spared.has(i));
    },

    async evaluate(batch, details = false): Promise<EvaluationResult> {
      checkBatch(batch);
      if (batch.exampleCount === 0) return nothing;
      runtime.activate();
      const of = { bareOf: () => bareOf(batch), targets: targetsOf(batch), details };
      return evaluateBatch(runtime, aim, of);
    },

    close() {
      if (isClosed) return;
      isClosed = true;
      weights.dispose();
    },
  };
}

const range = (count: number): Uint32Array => Uint32Array.from({ length: count }, (_, i) => i);
