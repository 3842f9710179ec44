import { abortError } from "../deadline.ts";
import type { RingPort } from "../ring/port.ts";
import type { BatchShares } from "./batch-shares.ts";
import type { DataAhead } from "./data-ahead.ts";
import type { EarlyStopping } from "./early-stopping.ts";
import { evaluateLocally, type HeldOut } from "./evaluation.ts";
import type { FiniteGuard } from "./finite-guard.ts";
import type { Place } from "./sampler.ts";
import { type Exchange, type OpenExchange, tail } from "./synchronization/exchange.ts";
import type { Synchronization } from "./synchronization/synchronization.ts";
import type { TrainingState } from "./training-state.ts";
import type { Workload } from "./workload.ts";

/** The steps of one rank from one synchronization point to the next. */
interface StepsOfRank {
  readonly ring: RingPort;
  readonly firstStep: number;
  readonly stepCount: number;
  /** Among those who share the global batch. */
  readonly place: Place;
  /** Takes what is final of the last gradient while the rest is computed. */
  readonly exchanging: OpenExchange;
}

interface Tools {
  readonly workload: Workload;
  readonly dataAhead: DataAhead;
  readonly heldOut: HeldOut;
  readonly shares: BatchShares;
  readonly guard: FiniteGuard;
  readonly stopping: EarlyStopping;
  readonly synchronization: Synchronization;
  readonly exchange: Exchange;
  readonly learningRate: (step: number) => number;
  readonly tellModel: (parameters: Float32Array | undefined) => void;
  readonly nowMs: () => number;
  readonly nextTurn: () => Promise<void>;
}

/** What a rank brings to the sum of a round, left in the vector of the exchange. */
export class RankSteps {
  readonly #tools: Tools;

  constructor(tools: Tools) {
    this.#tools = tools;
  }

  /**
   * Its steps, and ahead of them its share of the held-out set where that is due; a vote to stop where the state says so.
   * @param state of all ranks, before these steps
   * @throws RingfoldError CANCELLED | RING_BROKEN
   */
  async contribute(of: StepsOfRank, state: TrainingState, signal: AbortSignal): Promise<void> {
    const { stopping, synchronization } = this.#tools;
    const { values, totals } = this.#tools.exchange;
    if (stopping.isStopped(state)) {
      values.fill(0);
      totals[tail.stopVotes] = 1;
      return;
    }
    const heldOut = stopping.isDue(of.firstStep)
      ? await evaluateLocally(this.#tools.heldOut, of.place, signal)
      : undefined;
    await this.#takeSteps(of, signal);
    synchronization.contribute(state, values);
    if (heldOut) totals.set(heldOut.totals, tail.heldOutLossSum);
  }

  /** Leaves the last gradient, and the totals of all steps. */
  async #takeSteps(of: StepsOfRank, signal: AbortSignal): Promise<void> {
    const { ring, firstStep, stepCount, place, exchanging } = of;
    const { workload, dataAhead, shares, guard, synchronization, nowMs, nextTurn } = this.#tools;
    const { values, totals, isSplit } = this.#tools.exchange;
    const onFinal = isSplit ? exchanging.ready : undefined;
    const between = async () => {
      await nextTurn(); // our agent and our neighbours have their turn between parts and between local steps
      ring.throwIfBroken(); // or a neighbour's death would be noticed only when the ranks meet
    };
    for (let step = firstStep; step < firstStep + stepCount; step++) {
      if (step > firstStep) await between();
      if (signal.aborted) throw abortError(signal); // a ring of one never waits, so nothing else would notice
      await dataAhead.arrive(step, () => ring.throwIfBroken(), signal);
      const startedAtMs = nowMs();
      const slice = await workload.gradient({ step, ...place }, values, { between, onFinal, signal });
      shares.observe(slice.exampleCount, nowMs() - startedAtMs);
      guard.inspectLoss(slice.lossSum, step);
      // What is summed as it is gets looked at piece by piece, when it leaves.
      if (synchronization.everySteps > 1 && !guard.inspect(values, step)) break;
      totals[tail.lossSum]! += slice.lossSum;
      totals[tail.correctCount]! += slice.correctCount;
      totals[tail.targetCount]! += slice.targetCount;
      totals[tail.exampleCount]! += slice.exampleCount;
      const at = { targetCount: slice.targetCount, learningRate: this.#tools.learningRate(step) };
      this.#tools.tellModel(synchronization.step(values, at));
    }
    totals[tail.lateVotes] = dataAhead.isLate(firstStep + stepCount) ? 1 : 0;
  }
}
