import assert from "node:assert";

/** One thing that a stage does: the way forward, or back, of one micro-batch. */
export interface MicroOperation {
  readonly kind: "forward" | "backward";
  readonly microBatch: number;
}

/**
 * The order in which a stage takes the micro-batches of a step: as many forward as there are stages after it, then one
 * forward and one backward by turns (1F1B), then the rest backward. All have been flushed when the step ends, so every
 * micro-batch sees the same weights. A stage has at most `stageCount - stage` micro-batches under way, however many a step
 * has: that bounds what it keeps, and what its neighbours queue for it.
 *
 * @param of.stage from 0, where the examples come in
 * Source: Narayanan et al., "Efficient large-scale language model training on GPU clusters using Megatron-LM", 2021,
 * section 2.2.1 (PipeDream-Flush). A step is idle for (p-1)/m of its time, p stages and m micro-batches, as with GPipe.
 */
export function microSchedule(of: {
  readonly stage: number;
  readonly stageCount: number;
  readonly microBatchCount: number;
}): MicroOperation[] {
  const { stage, stageCount, microBatchCount } = of;
  assert(stage >= 0 && stage < stageCount && microBatchCount >= 0);
  const warmUp = Math.min(stageCount - 1 - stage, microBatchCount);
  const operations: MicroOperation[] = [];
  for (let next = 0; next < microBatchCount + warmUp; next++) {
    if (next < microBatchCount) operations.push({ kind: "forward", microBatch: next });
    if (next >= warmUp) operations.push({ kind: "backward", microBatch: next - warmUp });
  }
  return operations;
}
