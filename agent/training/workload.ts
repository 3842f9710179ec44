import type { JobSpec } from "../../protocol/job-spec.ts";
import type { Dataset } from "../data/dataset.ts";
import type { Batch, BatchResult, TrainableModel } from "../engine/port.ts";
import type { HeldOut } from "./evaluation.ts";
import { evaluatedAtOnce, type SizedSpec } from "./memory-forecast.ts";
import type { Place, Sampler } from "./sampler.ts";
import { TrainingBatches } from "./training-batches.ts";
import { parameterCountOf } from "./training-state.ts";

interface SliceResult extends BatchResult {
  readonly exampleCount: number;
}

type OnFinal = (start: number) => void;

/** What one rank computes: the gradient of its slice of a step's global batch, in parts where a whole slice is too much. */
export class Workload {
  readonly #model: TrainableModel;
  readonly #data: Dataset;
  readonly #microBatchSize: number;
  readonly #evaluatedAtOnce: number;
  readonly #batches: TrainingBatches;
  /** f32 [parameterCount], of one part; none where a slice is never cut. */
  readonly #part: Float32Array;

  constructor(options: {
    readonly spec: SizedSpec & Pick<JobSpec, "seed" | "augment">;
    readonly data: Dataset;
    readonly model: TrainableModel;
  }) {
    const { spec, data, model } = options;
    this.#model = model;
    this.#data = data;
    this.#microBatchSize = Math.min(spec.batchSize, spec.microBatchSize ?? spec.batchSize);
    const isCut = this.#microBatchSize < spec.batchSize;
    this.#evaluatedAtOnce = evaluatedAtOnce(spec, model.description);
    const capacity = Math.max(this.#microBatchSize, this.#evaluatedAtOnce);
    this.#batches = new TrainingBatches(spec, data, capacity);
    this.#part = new Float32Array(isCut ? parameterCountOf(model.layout) : 0);
  }

  get sampler(): Sampler {
    return this.#batches.sampler;
  }

  get stepsPerEpoch(): number {
    return this.#batches.stepsPerEpoch;
  }

  /** What the held-out set is evaluated with, in the memory that the forecast allows for. */
  get heldOut(): Omit<HeldOut, "nextTurn" | "ahead"> {
    const { test: set, shape } = this.#data;
    const [batch, batchSize] = [this.#batches.buffer, this.#evaluatedAtOnce];
    return { model: this.#model, set, target: shape.target, batch, batchSize };
  }

  /**
   * The gradient of the *sum* of the losses of this rank's slice, and its totals. Parts are added up in order, as f32: the same
   * sum as of the whole slice but for rounding, in the memory of one part.
   * @param into f32 [parameterCount]; overwritten
   * @param onFinal as that of `TrainableModel.gradient`
   * @param between is called between two parts; what it throws ends the work
   */
  async gradient(
    at: Place & { readonly step: number },
    into: Float32Array,
    how: {
      readonly between: () => Promise<void>;
      readonly onFinal?: OnFinal | undefined;
      readonly signal: AbortSignal;
    },
  ): Promise<SliceResult> {
    const { between, onFinal, signal } = how;
    const slice = this.sampler.slice(at);
    const part = (from: number) =>
      this.#batches.load(at.step, slice.subarray(from, from + this.#microBatchSize), signal);
    const isOnly = slice.length <= this.#microBatchSize;
    const first = await this.#model.gradient(await part(0), into, isOnly ? onFinal : undefined);
    const sums = { ...first, exampleCount: slice.length };
    for (let from = this.#microBatchSize; from < slice.length; from += this.#microBatchSize) {
      await between();
      const isLast = from + this.#microBatchSize >= slice.length;
      const result = await this.#addPart(await part(from), into, isLast ? onFinal : undefined);
      sums.lossSum += result.lossSum;
      sums.targetCount += result.targetCount;
      sums.lossWeight += result.lossWeight;
      sums.correctCount += result.correctCount;
    }
    return sums;
  }

  /** Adds each piece of a part as soon as it is final. */
  async #addPart(batch: Batch, into: Float32Array, onFinal: OnFinal | undefined): Promise<BatchResult> {
    let end = into.length;
    const add = (start: number) => {
      for (let i = start; i < end; i++) into[i]! += this.#part[i]!;
      end = start;
      onFinal?.(start);
    };
    const result = await this.#model.gradient(batch, this.#part, onFinal && add);
    add(0);
    return result;
  }
}
