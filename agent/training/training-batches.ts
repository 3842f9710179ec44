import type { JobSpec } from "../../protocol/job-spec.ts";
import { Augmentation } from "../data/augmentation.ts";
import { BatchBuffer, type Dataset } from "../data/dataset.ts";
import type { Batch } from "../engine/port.ts";
import { Sampler } from "./sampler.ts";

/** Which examples a step takes, and the examples themselves as training sees them: in the job's order, augmented. */
export class TrainingBatches {
  readonly sampler: Sampler;
  /** Of the last examples that were loaded. */
  readonly buffer: BatchBuffer;
  readonly #data: Dataset;
  readonly #augmentation: Augmentation | undefined;

  /** @param capacity examples at once */
  constructor(spec: Pick<JobSpec, "batchSize" | "seed" | "augment">, data: Dataset, capacity: number) {
    this.#data = data;
    this.sampler = new Sampler({
      exampleCount: data.train.count,
      ...(data.train.chunkExamples ? { chunkExamples: data.train.chunkExamples } : {}),
      batchSize: spec.batchSize,
      seed: spec.seed,
    });
    this.#augmentation = spec.augment && new Augmentation(spec.augment, data.shape.inputShape, spec.seed);
    this.buffer = new BatchBuffer(data.shape, capacity);
  }

  get stepsPerEpoch(): number {
    return this.sampler.stepsPerEpoch;
  }

  /** Inputs and targets; valid until the next call. @throws RingfoldError as `ExampleSet.load` */
  async load(step: number, examples: Uint32Array, signal: AbortSignal): Promise<Batch> {
    const batch = await this.buffer.gather(this.#data.train, examples, signal);
    this.#augmentation?.apply(batch.inputs, examples, Math.floor(step / this.stepsPerEpoch));
    return { ...batch, step, examples };
  }
}
