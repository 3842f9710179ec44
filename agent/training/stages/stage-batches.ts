import { type JobSpec, microBatchSizeOf } from "../../../protocol/job-spec.ts";
import type { BatchBuffer, Dataset } from "../../data/dataset.ts";
import type { Batch } from "../../engine/port.ts";
import type { Place, Sampler } from "../sampler.ts";
import { TrainingBatches } from "../training-batches.ts";
import type { MicroBatch } from "./pipeline.ts";

/** The micro-batches of a job with stages: all stages of a replica cut the same slice of a step's batch alike. */
export class StageBatches {
  readonly microBatchSize: number;
  readonly #batches: TrainingBatches;

  constructor(
    spec: Pick<JobSpec, "batchSize" | "microBatchSize" | "stages" | "seed" | "augment">,
    data: Dataset,
  ) {
    this.microBatchSize = microBatchSizeOf(spec);
    this.#batches = new TrainingBatches(spec, data, this.microBatchSize);
  }

  get sampler(): Sampler {
    return this.#batches.sampler;
  }

  get buffer(): BatchBuffer {
    return this.#batches.buffer;
  }

  get stepsPerEpoch(): number {
    return this.#batches.stepsPerEpoch;
  }

  /** Of one replica's slice of a step's batch, in order. */
  of(at: Place & { readonly step: number }): MicroBatch[] {
    const slice = this.sampler.slice(at);
    const count = Math.ceil(slice.length / this.microBatchSize);
    return Array.from({ length: count }, (_, i) => ({
      step: at.step,
      examples: slice.subarray(i * this.microBatchSize, (i + 1) * this.microBatchSize),
    }));
  }

  /** Inputs and targets; valid until the next call. @throws RingfoldError as `ExampleSet.load` */
  load({ step, examples }: MicroBatch, signal: AbortSignal): Promise<Batch> {
    return this.#batches.load(step, examples, signal);
  }
}
