import type { JobSpec } from "../../protocol/job-spec.ts";
import { limits } from "../../protocol/limits.ts";
import type { Evaluation, TrainingPoint } from "../../protocol/messages/job.ts";
import type { Clock } from "../../protocol/ports.ts";
import type { Dataset } from "../data/dataset.ts";
import { abortError } from "../deadline.ts";
import type { TrainableModel } from "../engine/port.ts";
import type { RingMemory } from "../ring/memory.ts";
import type { Ring } from "../ring/ring.ts";
import { evaluateShare } from "./evaluation.ts";
import { FiniteGuard } from "./finite-guard.ts";
import type { CatchUp, KeptRound } from "./healing/catch-up.ts";
import type { Entry } from "./healing/entry.ts";
import { waitForHealing } from "./healing/final-wait.ts";
import { learningRate } from "./schedule.ts";
import { StallBound } from "./stall-bound.ts";
import { Exchange, tail } from "./synchronization/exchange.ts";
import { createSynchronization, type Synchronization } from "./synchronization/synchronization.ts";
import type { StepReport, Trainee } from "./trainee.ts";
import {
  encodeState,
  encodeWeights,
  initialState,
  restoreState,
  type TrainingState,
  trainingPoint,
} from "./training-state.ts";
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
  /** Monotonic milliseconds. */
  readonly nowMs: () => number;
  readonly clock: Clock;
  /** Lets sockets and messages have their turn; `setImmediate` outside the simulator. */
  readonly nextTurn: () => Promise<void>;
  /** Called at each synchronization point; the next step does not begin before it resolves. */
  readonly onStep: (report: StepReport) => Promise<void>;
}

export class Trainer implements Trainee {
  /** At the last synchronization point: steps since then are not in it, and a broken ring takes them back. */
  readonly state: TrainingState;
  readonly totalSteps: number;
  readonly stepsPerEpoch: number;
  readonly #options: TrainerOptions;
  readonly #workload: Workload;
  readonly #synchronization: Synchronization;
  readonly #exchange: Exchange;
  readonly stall = new StallBound();
  readonly #guard: FiniteGuard;
  #pauseWanted = false;

  /** @throws whatever reading the parameters of the engine throws */
  static async open(options: TrainerOptions): Promise<Trainer> {
    const trainer = new Trainer(options);
    await options.model.readParameters(trainer.state.parameters);
    return trainer;
  }

  private constructor(options: TrainerOptions) {
    const { spec, data, model } = options;
    const parameterCount = model.description.parameterCount;
    this.#options = options;
    this.#synchronization = createSynchronization(spec, model.layout);
    this.#exchange = new Exchange(spec, parameterCount);
    this.#guard = new FiniteGuard(spec.nonFinite, model.layout);
    this.state = initialState(parameterCount, this.#synchronization);
    this.#workload = new Workload({ spec, data, model });
    this.stepsPerEpoch = this.#workload.stepsPerEpoch;
    this.totalSteps = spec.epochs * this.stepsPerEpoch;
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

  async encodeWeights(): Promise<Uint8Array> {
    return encodeWeights(this.state, this.#options.model.layout);
  }

  async run(ring: Ring, signal: AbortSignal, entry?: Entry): Promise<"done" | "paused"> {
    this.#pauseWanted = false;
    this.#exchange.begin();
    this.#guard.begin();
    this.#tellModel(this.#synchronization.begin(this.state));
    ring.hopTimeoutMs = this.stall.boundMs;
    let healing = entry;
    for (let step = entry?.step ?? this.state.step; step < this.totalSteps; ) {
      const round = await this.#round({ ring, firstStep: step, healing }, signal);
      step += round.stepCount;
      if (round.pauses) return "paused";
      if (healing && round.healedCount === healing.healingCount) {
        healing.onAllHealed();
        healing = undefined;
      }
    }
    if (healing) await this.#finishHealing(ring, healing, signal);
    return "done";
  }

  /** The steps up to the next synchronization point, with all ranks of the ring. */
  async #round(at: RoundOfRing, signal: AbortSignal): Promise<RoundResult> {
    const { nowMs, onStep, nextTurn } = this.#options;
    const { ring, firstStep, healing } = at;
    const { values, totals } = this.#exchange;
    const catchUp = healing?.catchUp;
    const startedAtMs = nowMs();
    const { everySteps } = this.#synchronization;
    const stepCount = Math.min(everySteps - (firstStep % everySteps), this.totalSteps - firstStep);

    if (ring.isWornOut) this.requestPause();
    if (catchUp) {
      values.fill(0);
      totals.fill(0);
    } else {
      const place = healing?.place ?? { rank: ring.rank, worldSize: ring.worldSize };
      await this.#takeSteps({ ring, firstStep, stepCount, ...place }, signal);
      this.#synchronization.contribute(this.state, values);
      if (everySteps > 1) this.#guard.inspect(values, 0, firstStep + stepCount - 1);
    }
    this.#guard.vote(values, totals);
    totals[tail.pauseVotes] = this.#pauseWanted ? 1 : 0;
    totals[tail.healedCount] = catchUp?.isCurrent ? 1 : 0;

    const communicationStartedAtMs = nowMs();
    // A first round of local steps may take longer than any first step, and a neighbour several times as long as we did.
    const ownMs = communicationStartedAtMs - startedAtMs;
    if (stepCount > 1) ring.hopTimeoutMs = Math.max(this.stall.boundMs, limits.stallSteps * ownMs);
    await this.#exchange.sum(ring, signal);
    const communicationMs = nowMs() - communicationStartedAtMs;
    if (ring.worldSize === 1) await nextTurn(); // a ring of one waits for nothing, and must still hear its agent

    const examples = totals[tail.exampleCount]!;
    // Targets that are all padding teach nothing, and are no division by zero.
    const targetCount = Math.max(1, totals[tail.targetCount]!);
    const loss = totals[tail.lossSum]! / targetCount;
    const fault = await this.#guard.judge({ ring, values, totals, step: firstStep }, signal);
    const contributorCount = healing?.place.worldSize ?? ring.worldSize;
    const sums = { firstStep, stepCount, sums: values, targetCount, contributorCount };
    const round: KeptRound = { ...sums, isSkipped: fault !== undefined };
    const result = {
      stepCount,
      pauses: totals[tail.pauseVotes]! > 0,
      healedCount: totals[tail.healedCount]!,
    };
    const isNumber = this.#options.data.shape.target.kind === "number";
    const accuracy = isNumber ? null : totals[tail.correctCount]! / targetCount;
    if (catchUp && !catchUp.isCurrent) {
      catchUp.keep({ ...round, sums: values.slice() });
      await this.#catchUp(healing, catchUp);
    } else {
      this.#apply(round);
      this.#options.model.writeParameters(this.state.parameters);
    }
    const durationMs = nowMs() - startedAtMs;
    this.stall.observe(durationMs);
    ring.hopTimeoutMs = this.stall.boundMs;
    if (this.state.step === firstStep + stepCount) {
      await onStep({
        ...{ step: this.state.step, stepCount, loss, examples, accuracy, fault },
        ...{ durationMs, communicationMs, sentBytes: ring.sentBytes },
      });
    }
    return result;
  }

  #apply({ firstStep, stepCount, sums, targetCount, contributorCount, isSkipped }: KeptRound): void {
    const round = { contributorCount, targetCount, learningRate: this.#learningRate(firstStep) };
    if (isSkipped) this.#synchronization.begin(this.state);
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

  /** The ring has made its last step, and some ranks still heal. */
  async #finishHealing(ring: Ring, entry: Entry, signal: AbortSignal): Promise<void> {
    const apply = (catchUp: CatchUp) => this.#catchUp(entry, catchUp);
    await waitForHealing(ring, { catchUp: entry.catchUp, apply, clock: this.#options.clock }, signal);
    entry.onAllHealed();
  }

  /** This rank's part of some steps: leaves the last gradient and the totals of all of them in the vector. */
  async #takeSteps(of: StepsOfRank, signal: AbortSignal): Promise<void> {
    const { rank, worldSize } = of;
    const { values, totals } = this.#exchange;
    const sums = { loss: 0, correct: 0, targets: 0, examples: 0 };
    const takeTurn = () => this.#options.nextTurn().then(() => of.ring.throwIfBroken());
    for (let step = of.firstStep; step < of.firstStep + of.stepCount; step++) {
      if (step > of.firstStep) await takeTurn(); // our agent and our neighbours have their turn between local steps
      if (signal.aborted) throw abortError(signal); // a ring of one never waits, so nothing else would notice
      of.ring.throwIfBroken(); // or a neighbour's death would be noticed only when the ranks meet
      const slice = await this.#workload.gradient({ step, rank, worldSize }, values, takeTurn, signal);
      if (!this.#guard.inspect(values, slice.lossSum, step)) break;
      sums.loss += slice.lossSum;
      sums.correct += slice.correctCount;
      sums.targets += slice.targetCount;
      sums.examples += slice.exampleCount;
      const at = { targetCount: slice.targetCount, learningRate: this.#learningRate(step) };
      this.#tellModel(this.#synchronization.step(values, at));
    }
    totals[tail.lossSum] = sums.loss;
    totals[tail.correctCount] = sums.correct;
    totals[tail.targetCount] = sums.targets;
    totals[tail.exampleCount] = sums.examples;
  }

  /** Evaluates the held-out set, each rank its share. @throws as `evaluateShare` */
  evaluate(ring: Ring, signal: AbortSignal): Promise<Evaluation> {
    const { nextTurn } = this.#options;
    return evaluateShare(ring, { ...this.#workload.evaluation, nextTurn }, signal);
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
  readonly ring: Ring;
  readonly firstStep: number;
  /** Until all have healed. */
  readonly healing: Entry | undefined;
}

interface RoundResult {
  readonly stepCount: number;
  readonly pauses: boolean;
  /** Ranks that had healed before it. */
  readonly healedCount: number;
}

interface StepsOfRank {
  readonly ring: Ring;
  readonly firstStep: number;
  readonly stepCount: number;
  /** Among those who share the global batch. */
  readonly rank: number;
  readonly worldSize: number;
}
