import type { BatchResult } from "../../engine/port.ts";
import { divisorOf, type Exchange, tail } from "../synchronization/exchange.ts";
import { areFinite } from "./stage-faults.ts";
import type { StageRing } from "./stage-ring.ts";

/** What all stages know of a step. */
export interface StageTotals extends BatchResult {
  readonly exampleCount: number;
  readonly pauseVotes: number;
  /** By stage, how many of its ranks found numbers that are not finite. */
  readonly faultVotes: Float64Array;
}

/** As they travel: f64, and the votes of the stages behind them. */
const keys = ["lossSum", "correctCount", "exampleCount", "targetCount", "lossWeight", "pauseVotes"] as const;

/**
 * Sums the gradient of a stage over its replicas, in place, and the totals over all ranks. A rank whose numbers are not
 * finite sends zeros and a vote.
 *
 * @param own of this rank; only the last stage knows a loss
 * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | MESSAGE_INVALID | CANCELLED
 */
export async function sumOverStages(
  { replicas, column }: Pick<StageRing, "replicas" | "column">,
  exchange: Exchange,
  own: BatchResult & { readonly exampleCount: number; readonly wantsPause: boolean },
  signal: AbortSignal,
): Promise<StageTotals> {
  const { values, totals } = exchange;
  totals.fill(0);
  if (areFinite(values) && Number.isFinite(own.lossSum)) {
    totals[tail.lossSum] = own.lossSum;
    totals[tail.correctCount] = own.correctCount;
    totals[tail.targetCount] = own.targetCount;
    totals[tail.lossWeight] = own.lossWeight;
    totals[tail.exampleCount] = own.exampleCount;
  } else {
    values.fill(0);
    totals[tail.nonFiniteVotes] = 1;
  }
  totals[tail.pauseVotes] = own.wantsPause ? 1 : 0;
  await exchange.open(replicas, signal, () => {}).complete(() => {});
  if (!areFinite(values)) totals[tail.nonFiniteVotes]!++; // finite on each rank, but not their sum
  const all = new Float64Array(keys.length + column.stageCount);
  for (const [i, key] of keys.entries()) all[i] = totals[tail[key]]!;
  all[keys.length + column.stage] = totals[tail.nonFiniteVotes]!;
  await column.sum(all, signal);
  const [lossSum, correctCount, exampleCount, targetCount, lossWeight, pauseVotes] = all;
  return {
    lossSum: lossSum!,
    correctCount: correctCount!,
    exampleCount: exampleCount!,
    targetCount: divisorOf(targetCount!),
    lossWeight: divisorOf(lossWeight!),
    pauseVotes: pauseVotes!,
    faultVotes: all.subarray(keys.length),
  };
}
