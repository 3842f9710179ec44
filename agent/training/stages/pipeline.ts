import type { Batch, BatchResult, StageModel } from "../../engine/port.ts";
import type { Column } from "./column.ts";
import { microSchedule } from "./micro-schedule.ts";

/** Examples that go through the stages together. */
export interface MicroBatch {
  readonly step: number;
  /** Indices in the data set. */
  readonly examples: Uint32Array;
}

interface PipelineParts {
  readonly model: StageModel;
  readonly column: Column;
  /** The examples themselves, for the first stage, and their targets, for the last. Valid until the next call. */
  readonly load: (of: MicroBatch, signal: AbortSignal) => Promise<Batch>;
  /** Lets sockets and messages have their turn. */
  readonly nextTurn: () => Promise<void>;
}

/**
 * A step of one stage: takes the micro-batches forward and backward in the order of `microSchedule`, and adds up the
 * gradient of the sum of the losses over this stage's parameters, in the order of the micro-batches.
 *
 * What crosses between two stages is exact f32, so the gradients are those of one process but for the order of sums.
 *
 * @param into f32 [elements of the layout]; overwritten
 * @returns sums over the micro-batches, which only the last stage knows: zeros on the others
 * @throws RingfoldError as `Column.receive`, DATA_INVALID
 * Cost: beside forward and backward, a second forward on every stage but the last.
 */
export async function trainMicroBatches(
  parts: PipelineParts,
  microBatches: readonly MicroBatch[],
  into: { readonly gradient: Float32Array; readonly part: Float32Array },
  signal: AbortSignal,
): Promise<BatchResult> {
  const { column, nextTurn } = parts;
  const { stage, stageCount } = column;
  const totals = { lossSum: 0, targetCount: 0, lossWeight: 0, correctCount: 0 };
  /** What came in and is needed again on the way back; the first stage loads its examples anew. */
  const kept = new Map<number, Float32Array>();
  into.gradient.fill(0);
  for (const { kind, microBatch } of microSchedule({
    ...{ stage, stageCount, microBatchCount: microBatches.length },
  })) {
    const at = { ...parts, of: microBatches[microBatch]! };
    if (kind === "forward") {
      const inputs = await takeForward(at, signal);
      if (inputs) kept.set(microBatch, inputs);
    } else {
      const target = microBatch === 0 ? into.gradient : into.part;
      const result = await takeBackward(at, { inputs: kept.get(microBatch), parameters: target }, signal);
      kept.delete(microBatch);
      if (microBatch > 0) for (let i = 0; i < into.part.length; i++) into.gradient[i]! += into.part[i]!;
      totals.lossSum += result.lossSum;
      totals.targetCount += result.targetCount;
      totals.lossWeight += result.lossWeight;
      totals.correctCount += result.correctCount;
    }
    await nextTurn();
    column.throwIfBroken();
  }
  return totals;
}

type At = PipelineParts & { readonly of: MicroBatch };

/** @returns what came in from the stage before */
async function takeForward(at: At, signal: AbortSignal): Promise<Float32Array | undefined> {
  const { column, model, of } = at;
  const inputs = await receiveInputs(at, signal);
  if (column.isLast) return inputs; // its way forward is a part of its way back, which comes next
  const batch = inputs ? { exampleCount: of.examples.length, inputs } : await at.load(of, signal);
  column.send("after", "activations", await model.forward({ ...batch, ...of }, "training"));
  return inputs;
}

async function receiveInputs(
  { column, model, of }: At,
  signal: AbortSignal,
): Promise<Float32Array | undefined> {
  if (column.isFirst) return undefined;
  const inputs = new Float32Array(of.examples.length * model.inputSize);
  await column.receive("before", "activations", inputs, signal);
  return inputs;
}

async function takeBackward(
  at: At,
  { inputs, parameters }: { readonly inputs: Float32Array | undefined; readonly parameters: Float32Array },
  signal: AbortSignal,
): Promise<BatchResult> {
  const { column, model, of } = at;
  const exampleCount = of.examples.length;
  // What the targets weigh goes to the stages before as the last element of a gradient: they know no targets. Where nothing
  // before learns it goes alone, as a sign that another micro-batch may come.
  const { learnsBefore, layout } = model;
  const inputGradient = inputs && new Float32Array((learnsBefore ? inputs.length : 0) + 1);
  const into = { parameters, inputs: learnsBefore ? inputGradient?.subarray(0, -1) : undefined };
  let result: BatchResult = { lossSum: 0, targetCount: 0, lossWeight: 0, correctCount: 0 };
  let lossWeight: number;
  if (column.isLast) {
    const batch = await at.load(of, signal);
    result = await model.gradient({ ...batch, ...of, ...(inputs ? { inputs } : {}) }, into);
    lossWeight = result.lossWeight;
  } else {
    const learns = learnsBefore || layout.length > 0;
    const received = new Float32Array((learns ? exampleCount * model.outputSize : 0) + 1);
    await column.receive("after", "gradients", received, signal);
    lossWeight = received.at(-1)!;
    if (learns) {
      const batch = inputs ? { exampleCount, inputs } : await at.load(of, signal);
      const outputGradient = received.subarray(0, -1);
      await model.backward({ ...batch, ...of }, { outputGradient, lossWeight }, into);
    }
  }
  if (inputGradient) {
    inputGradient[inputGradient.length - 1] = lossWeight;
    column.send("before", "gradients", inputGradient);
  }
  return result;
}

/** Segments that wait to leave before the next examples are computed. */
const pendingMax = 64;

/**
 * Takes examples forward only. @returns what the last stage makes of them; undefined on the others
 * @throws as `trainMicroBatches`
 */
export async function evaluateMicroBatch(
  at: PipelineParts & { readonly of: MicroBatch },
  { details }: { readonly details: boolean },
  signal: AbortSignal,
) {
  const { column, model, of, load, nextTurn } = at;
  const inputs = await receiveInputs(at, signal);
  const received = inputs && { exampleCount: of.examples.length, inputs };
  if (column.isLast) return model.evaluate({ ...(await load(of, signal)), ...received }, details);
  column.send(
    "after",
    "activations",
    await model.forward(received ?? (await load(of, signal)), "evaluation"),
  );
  await nextTurn();
  await column.drained(signal, pendingMax); // all go one way, so waiting is safe; and nothing else bounds the queue
  return undefined;
}
