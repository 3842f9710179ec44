import { limits } from "../../protocol/limits.ts";
import { abortError } from "../deadline.ts";
import type { RingPort } from "../ring/port.ts";
import type { BatchShares } from "./batch-shares.ts";
import type { DataAhead } from "./data-ahead.ts";
import type { EarlyStopping } from "./early-stopping.ts";
import { evaluateLocally, gatherFigures, type HeldOut } from "./evaluation.ts";
import type { FiniteGuard } from "./finite-guard.ts";
import type { Entry } from "./healing/entry.ts";
import type { Asked } from "./metrics/asked.ts";
import type { Figures } from "./metrics/figures.ts";
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
  /** Of an evaluation on the way. */
  readonly asked: Asked;
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
  /** Of that: what is no sum of a few numbers. */
  readonly figures: Figures | undefined;
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
    const { shares, stall, dataAhead, stopping, exchange, guard, synchronization, nowMs } = this.#tools;
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
    const takesPart = !catchUp && !stopping.isStopped(state);
    const evaluated = evaluates ? await this.#evaluate({ ring, place, takesPart }, signal) : undefined;
    const busyBeforeMs = ring.busyMs;
    const lastStep = firstStep + stepCount - 1;
    const exchanging = exchange.open(ring, signal, (bucket) => {
      guard.inspect(values, lastStep, bucket);
      guard.takeBack(values, bucket);
    });
    totals.fill(0);
    if (takesPart) {
      await this.#takeSteps({ ring, firstStep, stepCount, place, exchanging }, signal);
      synchronization.contribute(state, values);
    } else values.fill(0);
    if (!takesPart && !catchUp) totals[tail.stopVotes] = 1;
    if (evaluated?.totals) totals.set(evaluated.totals, tail.heldOut);

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
    return { communicationMs, hiddenCommunicationMs, evaluates, figures: evaluated?.figures };
  }

  /**
   * Its share of the held-out set, ahead of the steps. What is no sum over the ranks is gathered before them: nobody gets to
   * the sum of the step without it, so who applies the step has heard the whole evaluation, and nobody else.
   *
   * @param of.takesPart else it only goes round with the others: it heals, or knows that the training is over
   */
  async #evaluate(
    of: { readonly ring: RingPort; readonly place: Place; readonly takesPart: boolean },
    signal: AbortSignal,
  ): Promise<{ readonly totals: Float32Array | undefined; readonly figures: Figures | undefined }> {
    const { heldOut, asked, stall, nowMs } = this.#tools;
    const { ring, place, takesPart } = of;
    const startedAtMs = nowMs();
    const watch = () => ring.throwIfBroken();
    const share = takesPart ? await evaluateLocally(heldOut, { place, asked, watch }, signal) : undefined;
    if (!asked.area && !asked.plan) return { totals: share?.totals, figures: undefined };
    const ownMs = nowMs() - startedAtMs;
    ring.hopTimeoutMs = Math.max(limits.firstStepTimeoutMs, stall.boundMs, limits.stallSteps * ownMs);
    const figures = await gatherFigures(ring, share, { asked, exampleCount: heldOut.set.count }, signal);
    return { totals: share?.totals, figures };
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
      totals[tail.lossWeight]! += slice.lossWeight;
      totals[tail.exampleCount]! += slice.exampleCount;
      const at = { lossWeight: slice.lossWeight, learningRate: this.#tools.learningRate(step) };
      this.#tools.tellModel(synchronization.step(values, at));
    }
    totals[tail.lateVotes] = dataAhead.isLate(firstStep + stepCount) ? 1 : 0;
  }
}
