import type { ExampleShape } from "../../protocol/data-schema.ts";
import type { ModelSpec } from "../../protocol/job-spec.ts";
import type { LayerRange } from "../../protocol/layer-cut.ts";
import type { ModelDescription } from "../../protocol/messages/model.ts";
import type { Objective } from "../../protocol/objective.ts";
import type { NamedTensor } from "../../protocol/safetensors.ts";

/**
 * What training and serving need of a compute engine. All numbers cross as plain f32 arrays, so that nothing outside
 * agent/engine and agent/models knows TF.js.
 */

/** A batch on its way to a model. */
export interface Batch {
  readonly exampleCount: number;
  /** f32, shape [exampleCount, ...inputShape]; may be longer than needed. */
  readonly inputs: Float32Array;
  /** f32, shape [exampleCount, target length]: classes, 0 or 1, or numbers; may be longer than needed. */
  readonly targets: Float32Array;
  /** Of a training step, with the indices of its examples: what a dropout follows from. */
  readonly step?: number;
  readonly examples?: ArrayLike<number>;
}

/** Sums over a batch, so that ranks with unequal slices add up exactly. */
export interface BatchResult {
  /** Over the targets that count: one an example, or those places of its sequence that are no padding. Each has its weight. */
  readonly lossSum: number;
  readonly targetCount: number;
  /** What a sum of losses or gradients is divided by to be the mean: the targets that count, or the sum of their weights. */
  readonly lossWeight: number;
  /** Predicted right; 0 where the target is a number. */
  readonly correctCount: number;
}

export interface EvaluationResult extends BatchResult {
  /** The loss without weights and smoothing, or the squared errors, where `lossSum` is something else. */
  readonly plainLossSum?: number;
  /** f32 [exampleCount], where the target is binary: the higher, the likelier 1. With details what is said of a number. */
  readonly scores?: Float32Array;
  /** With details, of each target of classes, f32: the likeliest class, and how many are likelier than the label. */
  readonly predicted?: Float32Array;
  readonly labelRanks?: Float32Array;
}

/** Where each parameter tensor lies in the flat parameter array. */
export interface ParameterSlot {
  readonly name: string;
  readonly shape: readonly number[];
  /** In elements. */
  readonly offset: number;
  readonly elementCount: number;
  /**
   * A running average of what batches show. Its place in a gradient holds what is to be taken away from it for each target,
   * whatever the learning rate.
   */
  readonly isAverage?: true;
}

export interface TrainableModel {
  readonly description: ModelDescription;
  readonly layout: readonly ParameterSlot[];
  /** Copies all parameters into `into`, f32 [parameterCount], in layout order. */
  readParameters(into: Float32Array): Promise<void>;
  writeParameters(from: Float32Array): void;
  /**
   * Forward and backward. Writes the gradient of the *sum* of the targets' losses into `gradient`,
   * f32 [parameterCount].
   *
   * @param onFinal is called while the rest is computed, with ever lower `start`: the gradient from there on is final. Not
   * for every part, and not by every engine; at the end all is final anyway. Must not throw.
   */
  gradient(batch: Batch, gradient: Float32Array, onFinal?: (start: number) => void): Promise<BatchResult>;
  /**
   * From now on no gradient of these parameters is computed, nor anything that only they need; their places in a gradient
   * are left as they are. Running averages go on.
   */
  spare?(isSpared: (slot: ParameterSlot) => boolean): void;
  /** @param details also what is said of each target */
  evaluate(batch: Batch, details?: boolean): Promise<EvaluationResult>;
  close(): void;
}

/** Layers `[fromLayer, toLayer)` of a model, for inference. */
export interface ModelShard {
  /** `input` f32 with shape [batch, ...]; the result is a fresh array. */
  infer(input: {
    readonly shape: readonly number[];
    readonly data: Float32Array;
  }): Promise<{ shape: number[]; data: Float32Array }>;
  close(): void;
}

/** Examples on their way through a stage: rows of the data set for the first one, else the output of the stage before. */
export type StageInputs = Omit<Batch, "targets">;

/** Where a stage leaves what it has differentiated; both are overwritten. */
export interface StageGradients {
  /** f32 [elements of the stage's layout]. */
  readonly parameters: Float32Array;
  /** f32 [at least exampleCount · inputSize]: what the stage before goes on with; none where nothing before it learns. */
  readonly inputs: Float32Array | undefined;
}

/**
 * Layers `[fromLayer, toLayer)` of a model, which train here while others train the rest. Only the weights of these layers
 * are here. Between forward and backward nothing is kept but the inputs, which are the caller's: layers are run again on
 * the way back (rematerialisation: Huang et al., "GPipe", 2019, section 2.3).
 */
export interface StageModel {
  /** Of the whole model. */
  readonly description: ModelDescription;
  readonly range: LayerRange;
  /** Of these layers alone, from offset 0. */
  readonly layout: readonly ParameterSlot[];
  /** Of the whole model. */
  readonly wholeLayout: readonly ParameterSlot[];
  /** Elements of one example. */
  readonly inputSize: number;
  readonly outputSize: number;
  /** Whether a layer before these has something to learn: else nobody asks for the gradient of what comes in. */
  readonly learnsBefore: boolean;
  /** Writes the parameters before the first step, in layout order; the stage itself stays as it is. */
  writeBeginning(into: Float32Array): void;
  /** Copies the parameters of these layers into `into`, in layout order. */
  readParameters(into: Float32Array): Promise<void>;
  writeParameters(from: Float32Array): void;
  /**
   * What the next stage takes, f32 [exampleCount · outputSize].
   * @param purpose layers such as dropout do something only in training
   */
  forward(batch: StageInputs, purpose: "training" | "evaluation"): Promise<Float32Array>;
  /**
   * Runs the layers again, then backward.
   * @param outputGradient f32 [exampleCount · outputSize], of the sum of the losses
   * @param lossWeight of these examples: by so much running averages move
   */
  backward(
    batch: StageInputs,
    of: { readonly outputGradient: Float32Array; readonly lossWeight: number },
    into: StageGradients,
  ): Promise<void>;
  /** Of the last stage: forward to the loss, and backward. */
  gradient(batch: Batch, into: StageGradients): Promise<BatchResult>;
  /** As that of `TrainableModel`. */
  spare(isSpared: (slot: ParameterSlot) => boolean): void;
  /** Of the last stage. */
  evaluate(batch: Batch, details?: boolean): Promise<EvaluationResult>;
  close(): void;
}

export interface EngineCandidate {
  readonly name: Engine["name"];
  readonly usable: boolean;
  /** Why it was taken, or why not, for a person. */
  readonly reason: string;
}

export interface Engine {
  readonly name: "tensorflow" | "webgpu" | "wasm" | "cpu";
  /** One sentence: which engine and why. */
  readonly reason: string;
  readonly candidates: readonly EngineCandidate[];
  readonly gpu: string | null;
  /** @throws RingfoldError JOB_INVALID when the model does not fit its input shape */
  openModel(spec: ModelSpec, options: OpenModelOptions): TrainableModel;
  /**
   * Some of the layers, to be trained while others train the rest.
   * @param options.place which of them, once it is known what the model will be; what it throws ends the opening
   * @throws RingfoldError JOB_INVALID when the model does not fit its input shape
   */
  openStage(spec: ModelSpec, options: OpenStageOptions): StageModel;
  /** @throws RingfoldError ARTEFACT_CORRUPT when the weights do not fit the topology */
  openShard(
    description: ModelDescription,
    layers: { readonly fromLayer: number; readonly toLayer: number },
    weights: readonly NamedTensor[],
  ): ModelShard;
  /** Measured on this machine with a fixed matrix product, GFLOP/s. */
  measureGflops(): Promise<number>;
  /** Tensors alive, for leak checks (`tf.memory().numTensors`). */
  tensorCount(): number;
  close(): void;
}

export interface OpenModelOptions extends ExampleShape {
  readonly seed: number;
  /** What is minimised; by the kind of target unless told. */
  readonly objective?: Objective | undefined;
  /** Called with what the model will be, before anything of it is built; what it throws ends the opening. */
  readonly accept?: (description: ModelDescription) => void;
}

export interface OpenStageOptions extends ExampleShape {
  readonly seed: number;
  /** As that of `OpenModelOptions`. */
  readonly objective?: Objective | undefined;
  readonly place: (description: ModelDescription) => LayerRange;
  /**
   * Changes the parameters before the first step, which follow from the seed: f32, in layout order. Called whenever they are
   * asked for; what it throws ends the opening.
   */
  readonly begin?:
    | ((stage: Pick<StageModel, "layout" | "wholeLayout">, into: Float32Array) => void)
    | undefined;
}
