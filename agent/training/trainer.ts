import { RingfoldError } from "../../protocol/errors.ts";
import type { JobSpec } from "../../protocol/job-spec.ts";
import { limits } from "../../protocol/limits.ts";
import type { Evaluation } from "../../protocol/messages/job.ts";
import { type Dataset, type ExampleSet, gatherBatch } from "../data/dataset.ts";
import type { BatchResult, TrainableModel } from "../engine/port.ts";
import { RingMemory } from "../ring/memory.ts";
import type { Ring } from "../ring/ring.ts";
import { createOptimizer, type Optimizer } from "./optimizer.ts";
import { evenShare, Sampler } from "./sampler.ts";
import { learningRate } from "./schedule.ts";
import { StallBound } from "./stall-bound.ts";
import { initialState, type TrainingState } from "./training-state.ts";

/**
 * A rank of synchronous data parallel training. The path of a step, top to bottom: sample our slice of the global
 * batch -> gradient -> one flat f32 vector -> all-reduce -> the same optimizer step on each rank -> next.
 *
 * Loss, correct answers, example count and the vote to pause ride at the end of the gradient vector, as f32 on any wire,
 * so all ranks know the same numbers and stop at the same boundary without a second operation.
 */
export interface StepReport {
  /** Completed steps, this one included. */
  readonly step: number;
  /** Means over the global batch. */
  readonly loss: number;
  readonly accuracy: number;
  readonly examples: number;
  readonly durationMs: number;
  readonly communicationMs: number;
}

export interface TrainerOptions {
  readonly spec: JobSpec;
  readonly data: Dataset;
  readonly model: TrainableModel;
  /** Monotonic milliseconds. */
  readonly nowMs: () => number;
  /** Lets sockets and messages have their turn; `setImmediate` outside the simulator. */
  readonly nextTurn: () => Promise<void>;
  /** Called after each committed step; a step is not followed by the next before it resolves. */
  readonly onStep: (report: StepReport) => Promise<void>;
}

const tail = { lossSum: 0, correctCount: 1, exampleCount: 2, pauseVotes: 3, length: 4 } as const;
const evaluationBatch = 250;

export class Trainer {
  readonly state: TrainingState;
  readonly totalSteps: number;
  readonly stepsPerEpoch: number;
  readonly #options: TrainerOptions;
  readonly #optimizer: Optimizer;
  readonly #sampler: Sampler;
  /** Of every ring that this trainer joins, one after the other: the gradient lies in it. */
  readonly memory: RingMemory;
  readonly #vector: Float32Array;
  /** What a lossy wire has rounded off on this rank and the next step makes up for. */
  readonly #residual: Float32Array | undefined;
  readonly #batch: { inputs: Float32Array; labels: Int32Array };
  /** Of this rank's neighbours; what earlier rings have shown is kept. */
  readonly stall = new StallBound();
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
    this.#optimizer = createOptimizer(spec.optimizer);
    this.state = initialState(parameterCount, this.#optimizer);
    this.#sampler = new Sampler({
      exampleCount: data.train.count,
      batchSize: spec.batchSize,
      seed: spec.seed,
    });
    this.stepsPerEpoch = this.#sampler.stepsPerEpoch;
    this.totalSteps = spec.epochs * this.stepsPerEpoch;
    const isLossy = spec.wire !== "f32";
    this.memory = new RingMemory({
      elementCount: parameterCount + tail.length + (isLossy ? parameterCount : 0),
    });
    this.#vector = this.memory.allocate(parameterCount + tail.length);
    this.#residual = isLossy ? this.memory.allocate(parameterCount) : undefined;
    const batchMax = Math.max(spec.batchSize, evaluationBatch);
    const exampleSize = data.inputShape.reduce((product, dimension) => product * dimension, 1);
    this.#batch = { inputs: new Float32Array(batchMax * exampleSize), labels: new Int32Array(batchMax) };
  }

  /** Asks for a pause: the ring as a whole pauses after the step in which the first vote arrives. */
  requestPause(): void {
    this.#pauseWanted = true;
  }

  /** Tells the engine that `state` was replaced (healed, restored). */
  adoptState(): void {
    this.#options.model.writeParameters(this.state.parameters);
  }

  /**
   * Trains until all steps are done or the ring pauses. After a throw, `state` is that of the last completed step.
   * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | CANCELLED | NOT_FINITE
   */
  async run(ring: Ring, signal: AbortSignal): Promise<"done" | "paused"> {
    this.#pauseWanted = false;
    // A residual belongs to its ring: after a broken operation nobody knows what of it has been made up for.
    this.#residual?.fill(0);
    ring.hopTimeoutMs = this.stall.boundMs;
    while (this.state.step < this.totalSteps) {
      throwIfCancelled(signal);
      if (await this.#step(ring, signal)) return "paused";
    }
    return "done";
  }

  /** Whether the ring pauses after this step. */
  async #step(ring: Ring, signal: AbortSignal): Promise<boolean> {
    const { model, spec, nowMs, onStep, data } = this.#options;
    const { state } = this;
    const startedAtMs = nowMs();

    const indices = this.#sampler.slice({ step: state.step, rank: ring.rank, worldSize: ring.worldSize });
    if (ring.isWornOut) this.requestPause();
    const gradient = this.#vector.subarray(0, state.parameters.length);
    const totals = this.#vector.subarray(state.parameters.length);
    this.#writeTotals(
      totals,
      await model.gradient(this.#gather(data.train, indices), gradient),
      indices.length,
    );

    const communicationStartedAtMs = nowMs();
    await ring.allReduce(this.#vector, signal, {
      wire: spec.wire,
      exactTail: tail.length,
      ...(this.#residual ? { residual: this.#residual } : {}),
    });
    const communicationMs = nowMs() - communicationStartedAtMs;
    if (ring.worldSize === 1) await this.#options.nextTurn(); // a ring of one waits for nothing, and must still hear its agent

    const exampleCount = totals[tail.exampleCount]!;
    const loss = totals[tail.lossSum]! / exampleCount;
    this.#averageGradient(gradient, exampleCount, loss);
    const rate = { base: spec.optimizer.learningRate, step: state.step, totalSteps: this.totalSteps };
    this.#optimizer.apply(state, gradient, learningRate(spec.schedule, rate));
    state.step++;
    model.writeParameters(state.parameters);

    const durationMs = nowMs() - startedAtMs;
    this.stall.observe(durationMs);
    ring.hopTimeoutMs = this.stall.boundMs;
    await onStep({
      step: state.step,
      loss,
      accuracy: totals[tail.correctCount]! / exampleCount,
      examples: exampleCount,
      durationMs,
      communicationMs,
    });
    return totals[tail.pauseVotes]! > 0;
  }

  /**
   * Evaluates the held-out set, each rank its share. Sums travel as f32: exact for counts below 2^24.
   * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | CANCELLED
   */
  async evaluate(ring: Ring, signal: AbortSignal): Promise<Evaluation> {
    const { model, data, nextTurn } = this.#options;
    const { start, end } = evenShare({ count: data.test.count, rank: ring.rank, worldSize: ring.worldSize });
    const totals = new Float32Array(tail.length);
    for (let from = start; from < end; from += evaluationBatch) {
      throwIfCancelled(signal);
      const indices = Uint32Array.from({ length: Math.min(evaluationBatch, end - from) }, (_, i) => from + i);
      const { lossSum, correctCount } = await model.evaluate(this.#gather(data.test, indices));
      totals[tail.lossSum]! += lossSum;
      totals[tail.correctCount]! += correctCount;
      totals[tail.exampleCount]! += indices.length;
      await nextTurn();
    }
    // Steps say nothing of how long the others' shares take.
    ring.hopTimeoutMs = limits.firstStepTimeoutMs;
    await ring.allReduce(totals, signal);
    const examples = totals[tail.exampleCount]!;
    return {
      examples,
      loss: totals[tail.lossSum]! / examples,
      accuracy: totals[tail.correctCount]! / examples,
    };
  }

  #gather(set: ExampleSet, indices: Uint32Array) {
    gatherBatch(set, indices, this.#batch);
    return { exampleCount: indices.length, ...this.#batch };
  }

  #writeTotals(totals: Float32Array, { lossSum, correctCount }: BatchResult, exampleCount: number): void {
    totals[tail.lossSum] = lossSum;
    totals[tail.correctCount] = correctCount;
    totals[tail.exampleCount] = exampleCount;
    totals[tail.pauseVotes] = this.#pauseWanted ? 1 : 0;
  }

  /** Sum to mean, in place. Every rank sees the same sums, so every rank stops at the same non-finite step. */
  #averageGradient(gradient: Float32Array, exampleCount: number, loss: number): void {
    let sum = 0;
    for (let i = 0; i < gradient.length; i++) {
      const mean = gradient[i]! / exampleCount;
      gradient[i] = mean;
      sum += mean;
    }
    if (!Number.isFinite(sum) || !Number.isFinite(loss)) {
      throw new RingfoldError(
        "NOT_FINITE",
        `the loss or a gradient is not finite at step ${this.state.step}`,
        {
          step: this.state.step,
        },
      );
    }
  }
}

/** A ring of one never waits, so nothing else would notice. */
function throwIfCancelled(signal: AbortSignal): void {
  if (signal.aborted) throw new RingfoldError("CANCELLED", "the training was cancelled");
}
