import assert from "node:assert/strict";
import type { Tensor, Tensor1D, Tensor2D } from "@tensorflow/tfjs";
import { type Target, targetLength } from "../../protocol/data-schema.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import { writeInitialParameters } from "../models/initial-parameters.ts";
import type { Model } from "../models/library.ts";
import { forward } from "./forward.ts";
import type { Batch, BatchResult, TrainableModel } from "./port.ts";
import type { Runtime } from "./runtime.ts";
import { createWeights } from "./weights.ts";

/** A model that trains, on one runtime. */
export function openTrainableModel(
  runtime: Runtime,
  { description, layers, target }: Model,
  seed: number,
): TrainableModel {
  const { tf } = runtime;
  const { inputShape, parameterCount } = description;
  const inputSize = inputShape.reduce((product, length) => product * length, 1);

  runtime.activate();
  const initial = new Float32Array(parameterCount);
  writeInitialParameters(layers, seed, initial);
  const weights = createWeights(runtime, layers, initial);
  const nothing: BatchResult = { lossSum: 0, targetCount: 0, correctCount: 0 };
  let isClosed = false;

  function checkBatch({ exampleCount, inputs, targets }: Batch): void {
    assert(!isClosed, "the model is open");
    assert(inputs.length >= exampleCount * inputSize, "inputs hold the batch");
    assert(targets.length >= exampleCount * targetLength(target), "targets hold the batch");
    checkTargets(target, targets.subarray(0, exampleCount * targetLength(target)));
  }

  /** Loss and hits of a batch, as tensors of the running tidy. */
  function loss({ exampleCount, inputs, targets }: Batch): { loss: Tensor; correct: Tensor } {
    const x = tf.tensor(inputs.subarray(0, exampleCount * inputSize), [exampleCount, ...inputShape]);
    const y = tf.tensor1d(Int32Array.from(targets.subarray(0, exampleCount)), "int32") as Tensor1D;
    const logits = forward(runtime, layers, weights.byLayer, x, "logits") as Tensor2D;
    return runtime.operations.crossEntropy(logits, y);
  }

  /** Reads results of a tidy, then frees them. `sums` are the loss and the hits. */
  async function collect(
    targetCount: number,
    sums: readonly Tensor[],
    gradients: readonly Tensor[],
    into: Float32Array,
  ): Promise<BatchResult> {
    const values = [new Float32Array(1), new Float32Array(1)] as const;
    try {
      await runtime.read([
        ...sums.map((tensor, i) => ({ tensor, into: values[i]! })),
        ...gradients.map((tensor, i) => {
          const { offset, elementCount } = weights.layout[i]!;
          return { tensor, into: into.subarray(offset, offset + elementCount) };
        }),
      ]);
    } finally {
      tf.dispose([...sums, ...gradients]);
    }
    return { lossSum: values[0][0]!, targetCount, correctCount: Math.round(values[1][0]!) };
  }

  return {
    description,
    layout: weights.layout,

    async readParameters(into) {
      assert.equal(into.length, parameterCount);
      const { layout, variables } = weights;
      await runtime.read(
        variables.map((tensor, i) => {
          const { offset, elementCount } = layout[i]!;
          return { tensor, into: into.subarray(offset, offset + elementCount) };
        }),
      );
    },

    writeParameters(from) {
      assert.equal(from.length, parameterCount);
      runtime.activate();
      weights.layout.forEach(({ offset, elementCount }, i) => {
        runtime.write(weights.variables[i]!, from.subarray(offset, offset + elementCount));
      });
    },

    async gradient(batch, gradient) {
      assert.equal(gradient.length, parameterCount);
      checkBatch(batch);
      if (batch.exampleCount === 0) {
        gradient.fill(0);
        return nothing;
      }
      runtime.activate();
      const [sums, gradients] = tf.tidy(() => {
        let correct: Tensor | undefined;
        const { value, grads } = tf.variableGrads(() => {
          const result = loss(batch);
          correct = tf.keep(result.correct);
          return result.loss as ReturnType<typeof tf.scalar>;
        }, [...weights.variables]);
        return [[value as Tensor, correct!], weights.variables.map(({ name }) => grads[name]!)] as [
          Tensor[],
          Tensor[],
        ];
      });
      return collect(batch.exampleCount, sums, gradients, gradient);
    },

    async evaluate(batch) {
      checkBatch(batch);
      if (batch.exampleCount === 0) return nothing;
      runtime.activate();
      const result = tf.tidy(() => loss(batch));
      return collect(batch.exampleCount, [result.loss, result.correct], [], new Float32Array(0));
    },

    close() {
      if (isClosed) return;
      isClosed = true;
      weights.dispose();
    },
  };
}

/** @throws RingfoldError DATA_INVALID naming the first target that the model cannot have */
function checkTargets(target: Target, targets: Float32Array): void {
  if (target.kind !== "class" && target.kind !== "tokens") return;
  const { classCount } = target;
  for (let i = 0; i < targets.length; i++) {
    const label = targets[i]!;
    if (label >= 0 && label < classCount && Number.isInteger(label)) continue;
    const message = `label ${label} of example ${i} of a batch is not a class: there are ${classCount}`;
    throw new RingfoldError("DATA_INVALID", message, { label, classCount });
  }
}
