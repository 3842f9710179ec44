import { limits } from "../../protocol/limits.ts";
import { abortError } from "../deadline.ts";
import type { RingPort } from "../ring/port.ts";
import type { BatchShares } from "./batch-shares.ts";
import type { DataAhead } from "./data-ahead.ts";
import type { EarlyStopping } from "./early-stopping.ts";
import { evaluateLocally, type HeldOut } from "./evaluation.ts";
import type { FiniteGuard } from "./finite-guard.ts";
import type { Entry } from "./healing/entry.ts";
import type { Place } from "./sampler.ts";
import type { StallBound } from "./stall-bound.ts";
import { type Exchange, type OpenExchange, tail } from "./synchronization/exchange.ts";
import type { Synchronization } from "./synchronization/synchronization.ts";
import type { TrainingState } from "./training-state.ts";
import type { Workload } from "./workload.ts";

/** From one synchronization point to the next. */
interface RoundOfRank {
  readonly ring: RingPort;
  readonly firstStep: number;
  readonly stepCount: number;
  /** Until all have healed. */
  readonly healing: Entry | undefined;
  /** Asked when the rank has done its part. */
  readonly wantsPause: () => boolean;
}

interface StepsOfRank extends Pick<RoundOfRank, "ring" | "firstStep" | "stepCount"> {
  /** Among those who share the global batch. */
  readonly place: Place;
  /** Takes what is final of the last gradient while the rest is computed. */
  readonly exchanging: OpenExchange;
}

interface Tools {
  readonly workload: Workload;
  readonly dataAhead: DataAhead;
  readonly stall: StallBound;
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

interface RoundTimes {
  /** Nothing was computed meanwhile. */
  readonly communicationMs: number;
  readonly hiddenCommunicationMs: number;
  /** The held-out set was evaluated ahead of the steps. */
  readonly evaluates: boolean;
}

/** A round as far as the sum over all ranks: what this one brings to it, and how long neighbours may take. */
export class RankRound {
  readonly #tools: Tools;

  constructor(tools: Tools) {
    this.#tools = tools;
  }

  /**
   * Leaves sums and totals in the exchange.
   * @throws RingfoldError CANCELLED | RING_BROKEN | HOP_TIMEOUT | ARTEFACT_MISSING
   */
  async sum(of: RoundOfRank, state: TrainingState, signal: AbortSignal): Promise<RoundTimes> {
    const { shares, stall, dataAhead, stopping, exchange, guard, nowMs } = this.#tools;
    const { ring, firstStep, stepCount, healing } = of;
    const { values, totals } = exchange;
    const catchUp = healing?.catchUp;
    const startedAtMs = nowMs();
    await shares.agree(ring, catchUp === undefined, signal);
    const place = shares.of(healing?.place ?? { rank: ring.rank, worldSize: ring.worldSize });
    const lateVotes = totals[tail.lateVotes]!;
    stall.allowWait(dataAhead.turnTo({ step: firstStep, place, lateVotes }), ring);
    const evaluates = stopping.isDue(firstStep);
    const leastMs = evaluates ? limits.firstStepTimeoutMs : 0;
    if (evaluates) ring.hopTimeoutMs = Math.max(leastMs, stall.boundMs);
    const busyBeforeMs = ring.busyMs;
    const lastStep = firstStep + stepCount - 1;
    const exchanging = exchange.open(ring, signal, (bucket) => {
      guard.inspect(values, lastStep, bucket);
      guard.takeBack(values, bucket);
    });
    totals.fill(0);
    if (catchUp) values.fill(0);
    else await this.#contribute({ ring, firstStep, stepCount, place, exchanging }, state, signal);

    const communicationStartedAtMs = nowMs();
    // A first round of local steps may take longer than any first step, and a neighbour several times as long as we did.
    const ownMs = communicationStartedAtMs - startedAtMs;
    if (stepCount > 1 || evaluates)
      ring.hopTimeoutMs = Math.max(leastMs, stall.boundMs, limits.stallSteps * ownMs);
    await exchanging.complete(() => {
      guard.vote(totals);
      totals[tail.pauseVotes] = of.wantsPause() ? 1 : 0;
      totals[tail.healedCount] = catchUp?.isCurrent ? 1 : 0;
    });
    const communicationMs = nowMs() - communicationStartedAtMs;
    const hiddenCommunicationMs = Math.max(0, ring.busyMs - busyBeforeMs - communicationMs);
    return { communicationMs, hiddenCommunicationMs, evaluates };
  }

  /**
   * Its steps, and ahead of them its share of the held-out set where that is due; a vote to stop where the state says so.
   * @param state of all ranks, before these steps
   * @throws RingfoldError CANCELLED | RING_BROKEN
   */
  async #contribute(of: StepsOfRank, state: TrainingState, signal: AbortSignal): Promise<void> {
    const { stopping, synchronization } = this.#tools;
    const { values, totals } = this.#tools.exchange;
    if (stopping.isStopped(state)) {
      values.fill(0);
      totals[tail.stopVotes] = 1;
      return;
    }
    const heldOut = stopping.isDue(of.firstStep)
      ? await evaluateLocally(
          this.#tools.heldOut,
          { place: of.place, watch: () => of.ring.throwIfBroken() },
          signal,
        )
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
