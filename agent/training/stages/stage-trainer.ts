import assert from "node:assert";
import type { JobSpec } from "../../../protocol/job-spec.ts";
import { limits } from "../../../protocol/limits.ts";
import type { TrainingPoint } from "../../../protocol/messages/job.ts";
import type { Evaluation } from "../../../protocol/messages/job-report.ts";
import { checkObjective } from "../../../protocol/objective.ts";
import type { Clock } from "../../../protocol/ports.ts";
import type { Dataset } from "../../data/dataset.ts";
import { abortError } from "../../deadline.ts";
import type { StageModel } from "../../engine/port.ts";
import type { RingMemory } from "../../ring/memory.ts";
import type { RingPort } from "../../ring/port.ts";
import { withAverages } from "../averages.ts";
import { BestState, type Settled } from "../best-state.ts";
import { shorten, squaresOf } from "../clipping.ts";
import { DataAhead } from "../data-ahead.ts";
import { EarlyStopping } from "../early-stopping.ts";
import { askedOf } from "../metrics/asked.ts";
import { createOptimizer, type Optimizer, takeMean } from "../optimizer.ts";
import { learningRate } from "../schedule.ts";
import { StallBound } from "../stall-bound.ts";
import { Exchange } from "../synchronization/exchange.ts";
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
import { StageFaults } from "./stage-faults.ts";
import { StageRing } from "./stage-ring.ts";
import { sumOverStages } from "./stage-totals.ts";

export interface StageTrainerOptions {
  readonly spec: JobSpec;
  readonly data: Dataset;
  readonly model: StageModel;
  /** With those parameters that are not trained; `model` itself where all are. */
  readonly whole?: StageModel;
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

/**
 * A rank that trains one stage of a model. The path of a step, top to bottom: micro-batches through the stages and back ->
 * the gradient of this stage, summed over its replicas -> loss, counts and votes, summed over the stages -> the optimizer
 * on this stage's parameters -> next. A step counts when the totals have come: by then all stages have their gradients.
 *
 * The state is that of this stage alone, and with one replica a stage it has the bits of one process. Where the held-out set
 * is evaluated on the way, that comes before a step and counts with it.
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
  readonly #stopping: EarlyStopping;
  readonly #best: BestState;
  /** f32 [elements of the layout], of one micro-batch. */
  readonly #part: Float32Array;
  #pauseWanted = false;
  /** The stages before and after, in the newest generation. */
  #column: Column | undefined;
  /** Of the whole model, f32, once all steps are done and they have been gathered. */
  #whole: Float32Array | undefined;

  /** @throws RingfoldError JOB_INVALID; whatever reading the parameters of the engine throws */
  static async open(options: StageTrainerOptions): Promise<StageTrainer> {
    const trainer = new StageTrainer(options);
    await options.model.readParameters(trainer.state.parameters);
    return trainer;
  }

  private constructor(options: StageTrainerOptions) {
    const { spec, data, model } = options;
    const parameterCount = parameterCountOf(model.layout);
    checkObjective(spec, data.shape.target);
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
    this.#stopping = new EarlyStopping(spec.evaluation, { stepsPerEpoch: this.stepsPerEpoch, roundSteps: 1 });
    ({ state: this.state, best: this.#best } = this.#newState());
  }

  #newState() {
    const { spec, model } = this.#options;
    const scalars = { ...this.#optimizer.scalars, ...this.#stopping.scalars };
    const state = initialState(parameterCountOf(model.layout), { ...this.#optimizer, scalars });
    return { state, best: new BestState(spec, state) };
  }

  get memory(): RingMemory {
    return this.#exchange.memory;
  }

  /** Of the generation that trains now, or stands at the bound of a trial. */
  get column(): Column | undefined {
    return this.#column?.isDestroyed ? undefined : this.#column;
  }

  get skippedCount(): number {
    return this.#faults.skippedCount;
  }

  requestPause(): void {
    this.#pauseWanted = true;
  }

  /** Of this stage. */
  point(): TrainingPoint {
    return trainingPoint(this.state);
  }

  async encodeState(): Promise<Uint8Array> {
    return encodeState(this.state, this.#options.model.layout);
  }

  /** The state before the first step. */
  encodeBeginning(): Uint8Array {
    const { model } = this.#options;
    const { state } = this.#newState();
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
    assert(this.#whole, "the weights of all stages have been gathered");
    return encodeWeights({ parameters: this.#whole }, this.#options.model.wholeLayout);
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
      while (this.state.step < this.totalSteps && !this.#stopping.isStopped(this.state)) {
        if (signal.aborted) throw abortError(signal);
        if ((await this.#step(ring, signal)) === "paused") return "paused";
        ring.hopTimeoutMs = this.stall.boundMs;
      }
      return "done";
    } catch (cause) {
      ring.destroy();
      throw cause;
    }
  }

  /** Takes the held-out set through the stages. */
  evaluate(ring: RingPort, signal: AbortSignal): Promise<Evaluation> {
    return this.#evaluate(ring, "at the end", signal);
  }

  #evaluate(ring: RingPort, when: Parameters<typeof askedOf>[2], signal: AbortSignal): Promise<Evaluation> {
    assert(ring instanceof StageRing);
    const { spec, data, model, nextTurn } = this.#options;
    ring.hopTimeoutMs = limits.firstStepTimeoutMs;
    const asked = askedOf(spec, data.shape.target, when);
    const of = { data, model, batches: this.#batches, nextTurn, ahead: this.#dataAhead, asked };
    return evaluateStages(ring, of, signal);
  }

  /** Gathers the weights of all stages, so that all ranks end with the same. */
  async settle(ring: RingPort, signal: AbortSignal): Promise<Settled> {
    assert(ring instanceof StageRing);
    const { model, whole = model } = this.#options;
    const settled = await this.#best.settle(this.state, async (parameters) => {
      model.writeParameters(parameters);
      const evaluation = await this.evaluate(ring, signal);
      model.writeParameters(this.state.parameters);
      return evaluation;
    });
    const own = new Float32Array(parameterCountOf(whole.layout));
    model.writeParameters(settled.parameters);
    await whole.readParameters(own);
    model.writeParameters(this.state.parameters);
    const parameters = await gatherWeights(ring.column, whole, own, signal);
    this.#whole = parameters;
    const point = trainingPoint({ step: settled.point.step, parameters, slots: {}, scalars: {} });
    return { ...settled, parameters, point };
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
    const evaluation = this.#stopping.isDue(step)
      ? await this.#evaluate(ring, "on the way", signal)
      : undefined;

    const microBatches = this.#batches.of({ step, ...place });
    const load = this.#batches.load.bind(this.#batches);
    const parts = { model, column, nextTurn, load };
    const into = { gradient: values, part: this.#part };
    const sums = await trainMicroBatches(parts, microBatches, into, signal);

    if (ring.isWornOut) this.requestPause();
    const exampleCount = microBatches.reduce((count, { examples }) => count + examples.length, 0);
    const own = { ...sums, exampleCount: column.isLast ? exampleCount : 0, wantsPause: this.#pauseWanted };
    const totals = await sumOverStages(ring, this.#exchange, own, signal);

    const { targetCount, lossWeight } = totals;
    const fault = this.#faults.judge(totals.faultVotes, step);
    if (!fault) await this.#takeMean(ring, lossWeight, signal);
    // From here on nothing is waited for: what is noted of an evaluation belongs to this step, on every rank or on none.
    if (evaluation && this.#stopping.note(this.state, step, evaluation)) this.#best.keep(this.state);
    if (!fault) this.#takeOptimizerStep();
    this.state.step++;
    model.writeParameters(this.state.parameters);
    const durationMs = nowMs() - startedAtMs;
    if (!evaluation) this.stall.observe(durationMs); // it says nothing of the steps to come
    await onStep({
      ...{ step: this.state.step, stepCount: 1, fault, durationMs },
      loss: totals.lossSum / lossWeight,
      examples: totals.exampleCount,
      accuracy: data.shape.target.kind === "number" ? null : totals.correctCount / targetCount,
      ...{ communicationMs: ring.busyMs - waitedMs, hiddenCommunicationMs: 0, sentBytes: ring.sentBytes },
      evaluation: evaluation && { ...evaluation, step, isBest: this.state.scalars.bestStep === step },
    });
    return totals.pauseVotes > 0 ? "paused" : undefined;
  }

  /** The mean gradient, clipped by the length of that of the whole model. */
  async #takeMean(ring: StageRing, lossWeight: number, signal: AbortSignal): Promise<void> {
    const { spec, model } = this.#options;
    const { values } = this.#exchange;
    takeMean(values, 1 / lossWeight);
    if (spec.clipNorm === undefined) return;
    const trained = model.layout
      .filter(({ isAverage }) => !isAverage)
      .map(({ offset, elementCount }) => values.subarray(offset, offset + elementCount));
    const squares = Float64Array.of(trained.reduce((sum, part) => sum + squaresOf(part), 0));
    await ring.column.sum(squares, signal);
    const to = { length: Math.sqrt(squares[0]!), norm: spec.clipNorm };
    for (const part of trained) shorten(part, to);
  }

  #takeOptimizerStep(): void {
    const { optimizer, schedule } = this.#options.spec;
    const { learningRate: base } = optimizer;
    const at = { base, step: this.state.step, totalSteps: this.totalSteps };
    this.#optimizer.apply(this.state, this.#exchange.values, learningRate(schedule, at));
  }
}
