import { abortError } from "../deadline.ts";
import type { Ring } from "../ring/ring.ts";
import type { BatchShares } from "./batch-shares.ts";
import type { DataAhead } from "./data-ahead.ts";
import type { FiniteGuard } from "./finite-guard.ts";
import type { Place } from "./sampler.ts";
import { type Exchange, tail } from "./synchronization/exchange.ts";
import type { Synchronization } from "./synchronization/synchronization.ts";
import type { Workload } from "./workload.ts";

/** The steps of one rank from one synchronization point to the next. */
export interface StepsOfRank {
  readonly ring: Ring;
  readonly firstStep: number;
  readonly stepCount: number;
  /** Among those who share the global batch. */
  readonly place: Place;
}

interface Tools {
  readonly workload: Workload;
  readonly dataAhead: DataAhead;
  readonly shares: BatchShares;
  readonly guard: FiniteGuard;
  readonly synchronization: Synchronization;
  readonly exchange: Exchange;
  readonly learningRate: (step: number) => number;
  readonly tellModel: (parameters: Float32Array | undefined) => void;
  readonly nowMs: () => number;
  readonly nextTurn: () => Promise<void>;
}

/**
 * This rank's part of some steps: leaves the last gradient and the totals of all of them in the vector of the exchange.
 * @throws RingfoldError CANCELLED | RING_BROKEN
 */
export async function takeSteps(of: StepsOfRank, tools: Tools, signal: AbortSignal): Promise<void> {
  const { ring, firstStep, stepCount, place } = of;
  const { workload, shares, guard, synchronization, nowMs } = tools;
  const { values, totals } = tools.exchange;
  const takeTurn = async () => {
    await tools.nextTurn(); // our agent and our neighbours have their turn between parts and between local steps
    ring.throwIfBroken(); // or a neighbour's death would be noticed only when the ranks meet
  };
  for (let step = firstStep; step < firstStep + stepCount; step++) {
    if (step > firstStep) await takeTurn();
    if (signal.aborted) throw abortError(signal); // a ring of one never waits, so nothing else would notice
    await tools.dataAhead.arrive(step, () => ring.throwIfBroken(), signal);
    const startedAtMs = nowMs();
    const slice = await workload.gradient({ step, ...place }, values, takeTurn, signal);
    shares.observe(slice.exampleCount, nowMs() - startedAtMs);
    if (!guard.inspect(values, slice.lossSum, step)) break;
    totals[tail.lossSum]! += slice.lossSum;
    totals[tail.correctCount]! += slice.correctCount;
    totals[tail.targetCount]! += slice.targetCount;
    totals[tail.exampleCount]! += slice.exampleCount;
    const at = { targetCount: slice.targetCount, learningRate: tools.learningRate(step) };
    tools.tellModel(synchronization.step(values, at));
  }
  totals[tail.lateVotes] = tools.dataAhead.isLate(firstStep + stepCount) ? 1 : 0;
}
