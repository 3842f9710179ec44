import { type JobSpec, microBatchSizeOf } from "../../../protocol/job-spec.ts";
import { Augmentation } from "../../data/augmentation.ts";
import { BatchBuffer, type Dataset } from "../../data/dataset.ts";
import type { Batch } from "../../engine/port.ts";
import { type Place, Sampler } from "../sampler.ts";
import type { MicroBatch } from "./pipeline.ts";

/** The micro-batches of a job with stages: all stages of a replica cut the same slice of a step's batch alike. */
export class StageBatches {
  readonly stepsPerEpoch: number;
  readonly microBatchSize: number;
  readonly buffer: BatchBuffer;
  readonly #data: Dataset;
  readonly sampler: Sampler;
  readonly #augmentation: Augmentation | undefined;

  constructor(
    spec: Pick<JobSpec, "batchSize" | "microBatchSize" | "stages" | "seed" | "augment">,
    data: Dataset,
  ) {
    this.#data = data;
    this.sampler = new Sampler({
      exampleCount: data.train.count,
      ...(data.train.chunkExamples ? { chunkExamples: data.train.chunkExamples } : {}),
      batchSize: spec.batchSize,
      seed: spec.seed,
    });
    this.#augmentation = spec.augment && new Augmentation(spec.augment, data.shape.inputShape, spec.seed);
    this.stepsPerEpoch = this.sampler.stepsPerEpoch;
    this.microBatchSize = microBatchSizeOf(spec);
    this.buffer = new BatchBuffer(data.shape, this.microBatchSize);
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
  async load({ step, examples }: MicroBatch, signal: AbortSignal): Promise<Batch> {
    const batch = await this.buffer.gather(this.#data.train, examples, signal);
    this.#augmentation?.apply(batch.inputs, examples, Math.floor(step / this.stepsPerEpoch));
    return { ...batch, step, examples };
  }
}
