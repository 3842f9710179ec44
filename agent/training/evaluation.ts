import { limits } from "../../protocol/limits.ts";
import type { Evaluation } from "../../protocol/messages/job.ts";
import type { BatchBuffer, ExampleSet } from "../data/dataset.ts";
import { abortError } from "../deadline.ts";
import type { TrainableModel } from "../engine/port.ts";
import type { Ring } from "../ring/ring.ts";
import { evenShare } from "./sampler.ts";

/** Examples that a rank evaluates between two turns of the event loop. */
export const evaluationBatch = 250;

const tail = { lossSum: 0, correctCount: 1, targetCount: 2, exampleCount: 3, length: 4 } as const;

/**
 * Evaluates the held-out set, each rank its share; all ranks get the same answer. Sums travel as f32: exact for counts
 * below 2^24.
 * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | CANCELLED
 */
export async function evaluateShare(
  ring: Ring,
  of: {
    readonly model: TrainableModel;
    readonly set: ExampleSet;
    readonly batch: BatchBuffer;
    readonly batchSize: number;
    readonly nextTurn: () => Promise<void>;
  },
  signal: AbortSignal,
): Promise<Evaluation> {
  const { model, set, batch, batchSize, nextTurn } = of;
  const { start, end } = evenShare({ count: set.count, rank: ring.rank, worldSize: ring.worldSize });
  const totals = new Float32Array(tail.length);
  for (let from = start; from < end; from += batchSize) {
    if (signal.aborted) throw abortError(signal); // a ring of one never waits, so nothing else would notice
    const indices = Uint32Array.from({ length: Math.min(batchSize, end - from) }, (_, i) => from + i);
    const { lossSum, targetCount, correctCount } = await model.evaluate(batch.gather(set, indices));
    totals[tail.lossSum]! += lossSum;
    totals[tail.correctCount]! += correctCount;
    totals[tail.targetCount]! += targetCount;
    totals[tail.exampleCount]! += indices.length;
    await nextTurn();
  }
  // Steps say nothing of how long the others' shares take.
  ring.hopTimeoutMs = limits.firstStepTimeoutMs;
  await ring.allReduce(totals, signal);
  const targets = totals[tail.targetCount]!;
  return {
    examples: totals[tail.exampleCount]!,
    loss: totals[tail.lossSum]! / targets,
    accuracy: totals[tail.correctCount]! / targets,
  };
}
