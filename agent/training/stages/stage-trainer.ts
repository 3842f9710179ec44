import assert from "node:assert";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import { limits } from "../../../protocol/limits.ts";
import type { Evaluation, TrainingPoint } from "../../../protocol/messages/job.ts";
import type { Clock } from "../../../protocol/ports.ts";
import type { Dataset } from "../../data/dataset.ts";
import { abortError } from "../../deadline.ts";
import type { StageModel } from "../../engine/port.ts";
import type { RingMemory } from "../../ring/memory.ts";
import type { RingPort } from "../../ring/port.ts";
import { withAverages } from "../averages.ts";
import { shorten, squaresOf } from "../clipping.ts";
import { DataAhead } from "../data-ahead.ts";
import { createOptimizer, type Optimizer } from "../optimizer.ts";
import { learningRate } from "../schedule.ts";
import { StallBound } from "../stall-bound.ts";
import { Exchange, tail } from "../synchronization/exchange.ts";
import type { StepReport, Trainee } from "../trainee.ts";
import {
  encodeState,
  encodeWeights,
  initialState,
  parameterCountOf,
  restoreState,
  type TrainingState,
  trainingPoint,
} from "../training-state.ts";
import type { Column } from "./column.ts";
import { gatherWeights } from "./gather-weights.ts";
import { trainMicroBatches } from "./pipeline.ts";
import { StageBatches } from "./stage-batches.ts";
import { evaluateStages } from "./stage-evaluation.ts";
import { areFinite, StageFaults } from "./stage-faults.ts";
import { StageRing } from "./stage-ring.ts";

export interface StageTrainerOptions {
  readonly spec: JobSpec;
  readonly data: Dataset;
  readonly model: StageModel;
  /** Monotonic milliseconds. */
  readonly nowMs: () => number;
  readonly clock: Clock;
  /** Lets sockets and messages have their turn. */
  readonly nextTurn: () => Promise<void>;
  /** Called after each step; the next one does not begin before it resolves. */
  readonly onStep: (report: StepReport) => Promise<void>;
  /** As that of `TrainerOptions`. */
  readonly onWait?: (share: number) => void;
}

/** What all stages know of a step, as f64; then, by stage, how many of its ranks found numbers that are not finite. */
const totalsOfStep = {
  lossSum: 0,
  correctCount: 1,
  exampleCount: 2,
  targetCount: 3,
  pauseVotes: 4,
  length: 5,
};

/**
 * A rank that trains one stage of a model. The path of a step, top to bottom: micro-batches through the stages and back ->
 * the gradient of this stage, summed over its replicas -> loss, counts and votes, summed over the stages -> the optimizer
 * on this stage's parameters -> next. A step counts when the totals have come: by then all stages have their gradients.
 *
 * The state is that of this stage alone, and with one replica a stage it has the bits of one process.
 */
export class StageTrainer implements Trainee {
  readonly state: TrainingState;
  readonly totalSteps: number;
  readonly stepsPerEpoch: number;
  readonly stall = new StallBound();
  readonly #options: StageTrainerOptions;
  readonly #batches: StageBatches;
  readonly #dataAhead: DataAhead;
  readonly #exchange: Exchange;
  readonly #optimizer: Optimizer;
  readonly #faults: StageFaults;
  /** f32 [elements of the layout], of one micro-batch. */
  readonly #part: Float32Array;
  #pauseWanted = false;
  /** While it runs: the stages before and after. */
  #column: Column | undefined;
  /** Of the whole model, once all steps are done and it has been gathered. */
  #whole: { readonly parameters: Float32Array; readonly hash: string } | undefined;

  /** @throws whatever reading the parameters of the engine throws */
  static async open(options: StageTrainerOptions): Promise<StageTrainer> {
    const trainer = new StageTrainer(options);
    await options.model.readParameters(trainer.state.parameters);
    return trainer;
  }

  private constructor(options: StageTrainerOptions) {
    const { spec, data, model } = options;
    const parameterCount = parameterCountOf(model.layout);
    this.#options = options;
    this.#batches = new StageBatches(spec, data);
    this.#exchange = new Exchange({ ...spec, overlap: "never" }, parameterCount);
    this.#optimizer = withAverages(createOptimizer(spec.optimizer, model.layout), model.layout);
    this.#faults = new StageFaults(spec.nonFinite);
    this.#part = new Float32Array(parameterCount);
    this.stepsPerEpoch = this.#batches.stepsPerEpoch;
    this.totalSteps = spec.epochs * this.stepsPerEpoch;
    const { totalSteps } = this;
    this.#dataAhead = new DataAhead({ ...options, sampler: this.#batches.sampler, totalSteps });
    this.state = initialState(parameterCount, this.#optimizer);
  }

  get memory(): RingMemory {
    return this.#exchange.memory;
  }

  /** Of the generation that trains now. */
  get column(): Column | undefined {
    return this.#column;
  }

  get skippedCount(): number {
    return this.#faults.skippedCount;
  }

  requestPause(): void {
    this.#pauseWanted = true;
  }

  /** Of this stage; of the whole model once that is gathered, so that all ranks say the same. */
  point(): TrainingPoint {
    return this.#whole ? { step: this.state.step, hash: this.#whole.hash } : trainingPoint(this.state);
  }

  async encodeState(): Promise<Uint8Array> {
    return encodeState(this.state, this.#options.model.layout);
  }

  /** The state before the first step. */
  encodeBeginning(): Uint8Array {
    const { model } = this.#options;
    const state = initialState(this.state.parameters.length, this.#optimizer);
    model.writeBeginning(state.parameters);
    return encodeState(state, model.layout);
  }

  async restoreState(state: Uint8Array): Promise<void> {
    const { model } = this.#options;
    restoreState(this.state, state, model.layout);
    this.#whole = undefined;
    model.writeParameters(this.state.parameters);
  }

  async encodeWeights(): Promise<Uint8Array> {
    assert(this.#whole, "the weights of all stages are gathered at the end of the evaluation");
    return encodeWeights(this.#whole, this.#options.model.wholeLayout);
  }

  async run(ring: RingPort, signal: AbortSignal): Promise<"done" | "paused"> {
    assert(ring instanceof StageRing);
    this.#pauseWanted = false;
    this.#whole = undefined;
    this.#exchange.begin();
    this.#faults.begin();
    this.#dataAhead.begin();
    this.#column = ring.column;
    ring.hopTimeoutMs = limits.firstStepTimeoutMs; // a rank of another stage may still copy its state
    try {
      while (this.state.step < this.totalSteps) {
        if (signal.aborted) throw abortError(signal);
        if ((await this.#step(ring, signal)) === "paused") return "paused";
        ring.hopTimeoutMs = this.stall.boundMs;
      }
      return "done";
    } catch (cause) {
      ring.destroy();
      throw cause;
    } finally {
      this.#column = undefined;
    }
  }

  /** Takes the held-out set through the stages, and after the last step gathers the weights of all of them. */
  async evaluate(ring: RingPort, signal: AbortSignal): Promise<Evaluation> {
    assert(ring instanceof StageRing);
    const { data, model, nextTurn } = this.#options;
    ring.hopTimeoutMs = limits.firstStepTimeoutMs;
    const evaluation = await evaluateStages(ring, { data, model, batches: this.#batches, nextTurn }, signal);
    if (this.state.step < this.totalSteps) return evaluation; // a trial that pauses here goes on with its stage
    const parameters = await gatherWeights(ring.column, model, this.state.parameters, signal);
    this.#whole = { parameters, hash: trainingPoint({ ...this.state, parameters }).hash };
    return evaluation;
  }

  async #step(ring: StageRing, signal: AbortSignal): Promise<"paused" | undefined> {
    const { model, nowMs, nextTurn, onStep, data } = this.#options;
    const { column, replicas } = ring;
    const { step } = this.state;
    const { values } = this.#exchange;
    const place = { rank: replicas.rank, worldSize: replicas.worldSize };
    if (column.isFirst || column.isLast) {
      // The first step of a ring waits for a whole minute; later ones have asked for their chunks long before.
      this.#dataAhead.turnTo({ step, place, lateVotes: 0 });
      await this.#dataAhead.arrive(step, () => ring.throwIfBroken(), signal);
    }
    const startedAtMs = nowMs();
    const waitedMs = ring.busyMs;

    const microBatches = this.#batches.of({ step, ...place });
    const load = this.#batches.load.bind(this.#batches);
    const parts = { model, column, nextTurn, load };
    const into = { gradient: values, part: this.#part };
    const sums = await trainMicroBatches(parts, microBatches, into, signal);

    if (ring.isWornOut) this.requestPause();
    const exampleCount = microBatches.reduce((count, { examples }) => count + examples.length, 0);
    const totals = await this.#sum(ring, { ...sums, exampleCount: column.isLast ? exampleCount : 0 }, signal);

    // Targets that are all padding teach nothing, and are no division by zero.
    const targetCount = Math.max(1, totals[totalsOfStep.targetCount]!);
    const fault = this.#faults.judge(totals.subarray(totalsOfStep.length), step);
    if (!fault) await this.#apply(ring, targetCount, signal);
    this.state.step++;
    const durationMs = nowMs() - startedAtMs;
    this.stall.observe(durationMs);
    await onStep({
      ...{ step: this.state.step, stepCount: 1, fault, durationMs },
      loss: totals[totalsOfStep.lossSum]! / targetCount,
      examples: totals[totalsOfStep.exampleCount]!,
      accuracy: data.shape.target.kind === "number" ? null : totals[totalsOfStep.correctCount]! / targetCount,
      ...{ communicationMs: ring.busyMs - waitedMs, hiddenCommunicationMs: 0, sentBytes: ring.sentBytes },
    });
    return totals[totalsOfStep.pauseVotes]! > 0 ? "paused" : undefined;
  }

  /** The gradient over the replicas of this stage, in place; the totals over all ranks. */
  async #sum(
    ring: StageRing,
    of: {
      readonly lossSum: number;
      readonly correctCount: number;
      readonly targetCount: number;
      readonly exampleCount: number;
    },
    signal: AbortSignal,
  ): Promise<Float64Array> {
    const { values, totals } = this.#exchange;
    totals.fill(0);
    if (areFinite(values) && Number.isFinite(of.lossSum)) {
      totals[tail.lossSum] = of.lossSum;
      totals[tail.correctCount] = of.correctCount;
      totals[tail.targetCount] = of.targetCount;
      totals[tail.exampleCount] = of.exampleCount;
    } else {
      values.fill(0);
      totals[tail.nonFiniteVotes] = 1;
    }
    totals[tail.pauseVotes] = this.#pauseWanted ? 1 : 0;
    await this.#exchange.open(ring, signal, () => {}).complete(() => {});
    if (!areFinite(values)) totals[tail.nonFiniteVotes]!++; // finite on each rank, but not their sum
    const { column } = ring;
    const all = new Float64Array(totalsOfStep.length + column.stageCount);
    for (const key of ["lossSum", "correctCount", "exampleCount", "targetCount", "pauseVotes"] as const)
      all[totalsOfStep[key]] = totals[tail[key]]!;
    all[totalsOfStep.length + column.stage] = totals[tail.nonFiniteVotes]!;
    await column.sum(all, signal);
    return all;
  }

  /** The mean gradient, clipped by the length of that of the whole model, and the optimizer's step. */
  async #apply(ring: StageRing, targetCount: number, signal: AbortSignal): Promise<void> {
    const { spec, model } = this.#options;
    const { values } = this.#exchange;
    const share = Math.fround(1 / targetCount);
    for (let i = 0; i < values.length; i++) values[i] = Math.fround(values[i]! * share);
    if (spec.clipNorm !== undefined) {
      const trained = model.layout
        .filter(({ isAverage }) => !isAverage)
        .map(({ offset, elementCount }) => values.subarray(offset, offset + elementCount));
      const squares = Float64Array.of(trained.reduce((sum, part) => sum + squaresOf(part), 0));
      await ring.column.sum(squares, signal);
      const to = { length: Math.sqrt(squares[0]!), norm: spec.clipNorm };
      for (const part of trained) shorten(part, to);
    }
    const { learningRate: base } = spec.optimizer;
    const at = { base, step: this.state.step, totalSteps: this.totalSteps };
    this.#optimizer.apply(this.state, values, learningRate(spec.schedule, at));
    model.writeParameters(this.state.parameters);
  }
}
