import type { JobSpec } from "../../protocol/job-spec.ts";
import type { TrainingPoint } from "../../protocol/messages/job.ts";
import type { Evaluation } from "../../protocol/messages/job-report.ts";
import { checkObjective } from "../../protocol/objective.ts";
import type { Clock } from "../../protocol/ports.ts";
import type { Dataset } from "../data/dataset.ts";
import type { TrainableModel } from "../engine/port.ts";
import type { RingMemory } from "../ring/memory.ts";
import type { RingPort } from "../ring/port.ts";
import { BatchShares } from "./batch-shares.ts";
import type { Settled } from "./best-state.ts";
import { DataAhead } from "./data-ahead.ts";
import { EarlyStopping } from "./early-stopping.ts";
import { evaluationOf } from "./evaluation.ts";
import { FiniteGuard } from "./finite-guard.ts";
import { type CatchUp, type CatchUpRule, catchUpRule, hasRoom, type KeptRound } from "./healing/catch-up.ts";
import type { Entry } from "./healing/entry.ts";
import { waitForHealing } from "./healing/final-wait.ts";
import { askedOf } from "./metrics/asked.ts";
import { Outcome } from "./outcome.ts";
import { RankRound } from "./rank-round.ts";
import { learningRate } from "./schedule.ts";
import { StallBound } from "./stall-bound.ts";
import type { BucketRule } from "./synchronization/buckets.ts";
import { Exchange, meansOf, tail } from "./synchronization/exchange.ts";
import { createSynchronization, type Synchronization } from "./synchronization/synchronization.ts";
import type { StepReport, Trainee } from "./trainee.ts";
import {
  encodeState,
  initialState,
  parameterCountOf,
  restoreState,
  type TrainingState,
  trainingPoint,
} from "./training-state.ts";
import { seldom } from "./turns.ts";
import { Workload } from "./workload.ts";

/**
 * A rank of data parallel training. The path of a round, top to bottom: sample our slice of the global batch -> gradient ->
 * (with local steps: our own optimizer step, and again) -> one flat f32 vector -> sum over the ring -> the same state on
 * each rank -> next. With `every-step`, the default, a round is one step.
 *
 * Loss, correct answers, example count and the votes to pause or to leave the round out ride at the end of the vector, as
 * f32 on any wire, so all ranks know the same numbers and stop at the same boundary without a second operation.
 */
export interface TrainerOptions {
  readonly spec: JobSpec;
  readonly data: Dataset;
  readonly model: TrainableModel;
  /** With those parameters that are not trained; `model` itself where all are. */
  readonly whole?: TrainableModel;
  /** Monotonic milliseconds. */
  readonly nowMs: () => number;
  readonly clock: Clock;
  /** Lets sockets and messages have their turn; `setImmediate` outside the simulator. */
  readonly nextTurn: () => Promise<void>;
  /** Called at each synchronization point; the next step does not begin before it resolves. */
  readonly onStep: (report: StepReport) => Promise<void>;
  /** Called about once a second while a step waits for data, with the share that is here, and with 1 when all is. */
  readonly onWait?: (share: number) => void;
  /** That of protocol/limits.ts unless told; the same on all ranks. */
  readonly bucketRule?: BucketRule | undefined;
  /** Likewise. */
  readonly catchUpRule?: CatchUpRule | undefined;
}

export class Trainer implements Trainee {
  /** At the last synchronization point: steps since then are not in it, and a broken ring takes them back. */
  readonly state: TrainingState;
  readonly totalSteps: number;
  readonly stepsPerEpoch: number;
  readonly #options: TrainerOptions;
  readonly #synchronization: Synchronization;
  readonly #exchange: Exchange;
  /** How the ranks of the ring share the global batch. */
  readonly #shares: BatchShares;
  readonly #stopping: EarlyStopping;
  readonly #outcome: Outcome;
  readonly #dataAhead: DataAhead;
  readonly #rank: RankRound;
  readonly stall = new StallBound();
  readonly #guard: FiniteGuard;
  readonly #lookUp: () => Promise<void>;
  #pauseWanted = false;

  /** @throws RingfoldError JOB_INVALID; whatever reading the parameters of the engine throws */
  static async open(options: TrainerOptions): Promise<Trainer> {
    const trainer = new Trainer(options);
    await options.model.readParameters(trainer.state.parameters);
    return trainer;
  }

  private constructor(options: TrainerOptions) {
    const { spec, data, model, nowMs, nextTurn } = options;
    const parameterCount = parameterCountOf(model.layout);
    checkObjective(spec, data.shape.target);
    this.#options = options;
    this.#lookUp = seldom(nextTurn, nowMs);
    this.#synchronization = createSynchronization(spec, model.layout);
    this.#exchange = new Exchange(spec, parameterCount, options.bucketRule);
    this.#guard = new FiniteGuard(spec.nonFinite, model.layout, this.#exchange.memory);
    this.#shares = new BatchShares(spec);
    const workload = new Workload({ spec, data, model });
    this.stepsPerEpoch = workload.stepsPerEpoch;
    this.totalSteps = spec.epochs * this.stepsPerEpoch;
    const { totalSteps } = this;
    this.#dataAhead = new DataAhead({ ...options, sampler: workload.sampler, totalSteps });
    const { scalars, everySteps } = this.#synchronization;
    this.#stopping = new EarlyStopping(spec.evaluation, {
      stepsPerEpoch: this.stepsPerEpoch,
      roundSteps: everySteps,
    });
    const allScalars = { ...scalars, ...this.#stopping.scalars };
    this.state = initialState(parameterCount, { ...this.#synchronization, scalars: allScalars });
    const heldOut = { ...workload.heldOut, nextTurn, ahead: this.#dataAhead };
    this.#outcome = new Outcome(spec, { state: this.state, model, whole: options.whole, heldOut });
    this.#rank = new RankRound({
      ...{
        workload,
        heldOut,
        asked: askedOf(spec, data.shape.target, "on the way"),
        shares: this.#shares,
        guard: this.#guard,
        nowMs,
        nextTurn,
      },
      ...{ stopping: this.#stopping, synchronization: this.#synchronization, exchange: this.#exchange },
      ...{ dataAhead: this.#dataAhead, stall: this.stall },
      learningRate: (step) => this.#learningRate(step),
      tellModel: (parameters) => this.#tellModel(parameters),
    });
  }

  get memory(): RingMemory {
    return this.#exchange.memory;
  }

  get skippedCount(): number {
    return this.#guard.skippedCount;
  }

  requestPause(): void {
    this.#pauseWanted = true;
  }

  point(): TrainingPoint {
    return trainingPoint(this.state);
  }

  async encodeState(): Promise<Uint8Array> {
    return encodeState(this.state, this.#options.model.layout);
  }

  async restoreState(state: Uint8Array): Promise<void> {
    restoreState(this.state, state, this.#options.model.layout);
    this.adoptState();
  }

  /** Tells the engine that `state` was replaced. */
  adoptState(): void {
    this.#options.model.writeParameters(this.state.parameters);
  }

  encodeWeights(): Promise<Uint8Array> {
    return this.#outcome.encodeWeights();
  }

  async run(ring: RingPort, signal: AbortSignal, entry?: Entry): Promise<"done" | "paused"> {
    this.#pauseWanted = false;
    this.#outcome.reopen();
    this.#exchange.begin();
    this.#guard.begin();
    this.#shares.begin();
    this.#dataAhead.begin();
    this.#tellModel(this.#synchronization.begin(this.state));
    ring.hopTimeoutMs = this.stall.boundMs;
    let healing = entry;
    for (let step = entry?.step ?? this.state.step, rounds = 0; step < this.totalSteps; ) {
      const round = await this.#round({ ring, firstStep: step, healing }, signal);
      step += round.stepCount;
      rounds++;
      if (round.stops) break;
      if (round.pauses) return "paused";
      if (!healing) continue;
      const haveHealed = round.healedCount === healing.healingCount;
      if (haveHealed) healing.onAllHealed();
      else if (this.#mayKeep(rounds)) continue;
      else await this.#finishHealing(ring, healing, signal); // the state comes slower than the ring makes steps
      this.#shares.begin();
      healing = undefined;
    }
    if (healing) await this.#finishHealing(ring, healing, signal);
    return "done";
  }

  /** The steps up to the next synchronization point, with all ranks of the ring. */
  async #round(at: RoundOfRing, signal: AbortSignal): Promise<RoundResult> {
    const { nowMs, onStep } = this.#options;
    const { ring, firstStep, healing } = at;
    const { values, totals } = this.#exchange;
    const catchUp = healing?.catchUp;
    const startedAtMs = nowMs();
    const { everySteps } = this.#synchronization;
    const stepCount = Math.min(everySteps - (firstStep % everySteps), this.totalSteps - firstStep);

    if (ring.isWornOut) this.requestPause();
    const sum = this.#rank.sum(
      { ring, firstStep, stepCount, healing, wantsPause: () => this.#pauseWanted },
      this.state,
      signal,
    );
    const { communicationMs, hiddenCommunicationMs, evaluates, figures } = await sum;
    if (ring.worldSize === 1) await this.#lookUp(); // it waits for nothing, and must still hear its agent
    if (totals[tail.stopVotes]! > 0) return { stepCount: 0, pauses: false, stops: true, healedCount: 0 };

    const { target } = this.#options.data.shape;
    const { examples, lossWeight, loss, accuracy } = meansOf(totals, target);
    const fault = await this.#guard.judge({ ring, values, totals, step: firstStep }, signal);
    const contributorCount = healing?.place.worldSize ?? ring.worldSize;
    const sums = { firstStep, stepCount, sums: values, lossWeight, contributorCount };
    const evaluation = evaluates ? evaluationOf(totals.subarray(tail.heldOut), target, figures) : undefined;
    const round: KeptRound = { ...sums, isSkipped: fault !== undefined, evaluation };
    const result = {
      stepCount,
      pauses: totals[tail.pauseVotes]! > 0,
      stops: false,
      healedCount: totals[tail.healedCount]!,
    };
    if (catchUp && !catchUp.isCurrent) {
      catchUp.keep({ ...round, sums: values.slice() });
      await this.#catchUp(healing, catchUp);
    } else {
      this.#apply(round);
      this.#options.model.writeParameters(this.state.parameters);
    }
    const durationMs = nowMs() - startedAtMs;
    if (!evaluates) this.stall.observe(durationMs); // it says nothing of the steps to come
    ring.hopTimeoutMs = this.stall.boundMs;
    if (this.state.step === firstStep + stepCount) {
      await onStep({
        ...{ step: this.state.step, stepCount, loss, examples, accuracy, fault },
        ...{ durationMs, communicationMs, hiddenCommunicationMs, sentBytes: ring.sentBytes },
        batchShares: this.#shares.perMille,
        evaluation: evaluation && {
          ...{ ...evaluation, step: firstStep },
          isBest: this.state.scalars.bestStep === firstStep,
        },
      });
    }
    return result;
  }

  #apply({ firstStep, stepCount, sums, lossWeight, contributorCount, ...rest }: KeptRound): void {
    if (rest.evaluation && this.#stopping.note(this.state, firstStep, rest.evaluation))
      this.#outcome.keepBest();
    const round = { contributorCount, lossWeight, learningRate: this.#learningRate(firstStep) };
    if (rest.isSkipped) this.#synchronization.begin(this.state);
    else this.#synchronization.apply(this.state, sums, round);
    this.state.step = firstStep + stepCount;
  }

  /** Where the others stand, if the state has arrived. */
  async #catchUp(entry: Entry, catchUp: CatchUp): Promise<void> {
    const taken = catchUp.take();
    if (!taken) return;
    await entry.restore(taken.state);
    const parameters = this.#synchronization.begin(this.state);
    for (const round of taken.rounds) this.#apply(round);
    catchUp.done();
    this.#options.model.writeParameters(parameters ?? this.state.parameters);
    entry.onHealed();
  }

  /** Whether a rank that still heals has room for one more than all `rounds` of this ring. */
  #mayKeep(rounds: number): boolean {
    const roundBytes = this.#exchange.values.byteLength;
    return hasRoom(this.#options.catchUpRule ?? catchUpRule, { rounds, roundBytes });
  }

  /** The ring cannot go on, or has made its last step, and some ranks still heal: all wait for them. */
  async #finishHealing(ring: RingPort, entry: Entry, signal: AbortSignal): Promise<void> {
    const apply = (catchUp: CatchUp) => this.#catchUp(entry, catchUp);
    await waitForHealing(ring, { catchUp: entry.catchUp, apply, clock: this.#options.clock }, signal);
    ring.hopTimeoutMs = this.stall.boundMs;
    entry.onAllHealed();
  }

  evaluate(ring: RingPort, signal: AbortSignal): Promise<Evaluation> {
    return this.#outcome.evaluate(ring, signal);
  }

  settle(ring: RingPort, signal: AbortSignal): Promise<Settled> {
    return this.#outcome.settle(ring, signal);
  }

  #learningRate(step: number): number {
    const { optimizer, schedule } = this.#options.spec;
    return learningRate(schedule, { base: optimizer.learningRate, step, totalSteps: this.totalSteps });
  }

  #tellModel(parameters: Float32Array | undefined): void {
    if (parameters) this.#options.model.writeParameters(parameters);
  }
}

interface RoundOfRing {
  readonly ring: RingPort;
  readonly firstStep: number;
  /** Until all have healed. */
  readonly healing: Entry | undefined;
}

interface RoundResult {
  readonly stepCount: number;
  readonly pauses: boolean;
  /** The state says that the training is over: all have known it since the last round, and now also those that heal. */
  readonly stops: boolean;
  /** Ranks that had healed before it. */
  readonly healedCount: number;
}
