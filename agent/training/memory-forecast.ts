import { RingfoldError } from "../../protocol/errors.ts";
import type { JobSpec } from "../../protocol/job-spec.ts";
import type { LayerDescription, ModelDescription } from "../../protocol/messages/model.ts";

/** What a trainer will hold at most, in bytes. */
export interface MemoryForecast {
  /** Weights and their gradients in the engine. */
  readonly engineParameters: number;
  /** State, exchanged vector and optimizer on the flat parameters. */
  readonly state: number;
  /** Outputs of all layers for one rank's slice, kept for the way back. */
  readonly activations: number;
  /** The same of the held-out examples that are evaluated at once: never beside a slice. */
  readonly evaluation: number;
  /** What is held for a moment on its way to the disk, or to another stage. */
  readonly transfers: number;
}

/** TF.js's heap in WebAssembly can grow so far; the other engines are bounded by the machine alone. */
const wasmHeapBytes = 2 ** 32;
/** What the process itself takes: Node.js, TF.js, sockets. */
const processBytes = 200 * 2 ** 20;
/** What a driver's context, its libraries and their workspaces take of a GPU. An estimate: no GPU was there to measure it on. */
const gpuContextBytes = 512 * 2 ** 20;
/** Of a layer's output: itself, what was computed on the way to it, and its gradient. */
const copiesOfOutput = 3;
/** Held-out examples that are evaluated at once, at most: then sockets and messages have their turn. */
const evaluatedMax = 250;
/** Small examples are evaluated more at a time than a small slice holds, up to so many bytes. */
const evaluatedBytesMax = 128 * 2 ** 20;
const slotCount = { sgd: 1, adam: 2, adamw: 2, rmsprop: 2 } as const;

const sizeOf = (shape: readonly number[]) => shape.reduce((product, length) => product * length, 1);

export type SizedSpec = Pick<
  JobSpec,
  "batchSize" | "microBatchSize" | "stages" | "workers" | "optimizer" | "wire" | "topK" | "checkpoint"
>;

/** What a layer takes while it is trained: for its parameters, and for each example. */
export function bytesOfLayer(
  spec: SizedSpec,
  {
    parameterCount,
    outputShape,
    keptElements = 0,
  }: Pick<LayerDescription, "parameterCount" | "outputShape" | "keptElements">,
): { readonly parameters: number; readonly activations: number } {
  const isLossy = spec.wire !== "f32" || spec.topK !== undefined;
  const slice = Math.ceil(spec.batchSize / spec.workers.min);
  const isCut = spec.stages !== undefined || (spec.microBatchSize ?? slice) < slice;
  // Parameters and exchanged vector, optimizer, error feedback, one part of a slice; in the engine weights and gradients.
  const isKept = spec.checkpoint.keepBest; // the best state so far
  const arrays = 2 + slotCount[spec.optimizer.kind] + (isLossy ? 1 : 0) + (isCut ? 1 : 0) + (isKept ? 1 : 0);
  return {
    parameters: 4 * (2 + arrays) * parameterCount,
    activations: 4 * (copiesOfOutput * sizeOf(outputShape) + keptElements),
  };
}

/** The state as a checkpoint holds it: parameters, the arrays of the optimizer, and the best parameters where they are kept. */
export const bytesOfState = (
  { optimizer, checkpoint }: Pick<JobSpec, "optimizer" | "checkpoint">,
  parameterCount: number,
): number => 4 * (1 + slotCount[optimizer.kind] + (checkpoint.keepBest ? 1 : 0)) * parameterCount;

/** Of a rank in the smallest world that may train. */
function trainedAtOnce({ batchSize, microBatchSize, workers }: SizedSpec): number {
  const slice = Math.ceil(batchSize / workers.min);
  return Math.min(slice, microBatchSize ?? slice);
}

/** Outputs of all layers for one example. */
const bytesOfExample = (spec: SizedSpec, { inputShape, layers }: ModelDescription): number =>
  layers.reduce((sum, layer) => sum + bytesOfLayer(spec, layer).activations, 4 * sizeOf(inputShape));

/**
 * Held-out examples that a rank evaluates at once: no more than training takes, but for examples so small that memory does not
 * matter. A job that has trained in the memory that it was given must not outgrow that when all its steps are done.
 */
export function evaluatedAtOnce(spec: SizedSpec, model: ModelDescription): number {
  const affordable = Math.floor(evaluatedBytesMax / bytesOfExample(spec, model));
  const { microBatchSize = evaluatedMax } = spec;
  return Math.min(evaluatedMax, microBatchSize, Math.max(trainedAtOnce(spec), affordable));
}

/** By shapes alone, for the smallest world that may train: nothing is built. */
export function forecastMemory(spec: SizedSpec, model: ModelDescription): MemoryForecast {
  const engineParameters = 4 * 2 * model.parameterCount;
  const { parameters } = bytesOfLayer(spec, { ...model, outputShape: [] });
  const exampleBytes = bytesOfExample(spec, model);
  return {
    engineParameters,
    state: parameters - engineParameters,
    activations: trainedAtOnce(spec) * exampleBytes,
    evaluation: evaluatedAtOnce(spec, model) * exampleBytes,
    transfers: 2 * bytesOfState(spec, model.parameterCount), // a checkpoint, and as the store takes it
  };
}

/** An evaluation and a step take turns. */
const activationsOf = ({ activations, evaluation }: MemoryForecast) => Math.max(activations, evaluation);

/** What a training may take of a machine. */
export interface TrainingMemory {
  /** That this machine, or its container, has, or as much as its owner gives. */
  readonly memoryBytes: number;
  readonly isLimited?: boolean;
  readonly engine: string;
  /** Where the engine computes on a GPU whose own memory is known: its part lies there. */
  readonly gpuMemoryBytes?: number;
}

/** What the engine holds on its GPU: weights, gradients, outputs, and what the driver and its libraries take. */
const bytesOnGpu = (forecast: MemoryForecast): number =>
  gpuContextBytes + forecast.engineParameters + activationsOf(forecast);

/** Which memory of the engine is too small for its part, whatever the machine has. */
function lackOfEngine(forecast: MemoryForecast, { engine, gpuMemoryBytes }: LackOf): string | undefined {
  const engineBytes = forecast.engineParameters + activationsOf(forecast);
  if (engine === "wasm" && engineBytes > wasmHeapBytes)
    return `the wasm engine has a heap of ${gigabytes(wasmHeapBytes)}`;
  if (gpuMemoryBytes !== undefined && bytesOnGpu(forecast) > gpuMemoryBytes)
    return `${gigabytes(bytesOnGpu(forecast))} of that on the GPU, which has ${gigabytes(gpuMemoryBytes)}`;
  return undefined;
}
type LackOf = Pick<TrainingMemory, "engine" | "gpuMemoryBytes">;

/** On the machine itself. Of what is on a GPU weights and gradients pass through. */
function bytesOnMachine(forecast: MemoryForecast, gpuMemoryBytes: number | undefined): number {
  const { engineParameters, state, transfers } = forecast;
  const activations = gpuMemoryBytes === undefined ? activationsOf(forecast) : 0;
  return processBytes + engineParameters + activations + state + transfers;
}

/** Of the machine's memory; infinite where the engine has no room for its part. */
export function bytesNeeded(forecast: MemoryForecast, on: LackOf): number {
  if (lackOfEngine(forecast, on) !== undefined) return Number.POSITIVE_INFINITY;
  return bytesOnMachine(forecast, on.gpuMemoryBytes);
}

/**
 * Refuses before the first step what would end in the middle of it, killed by the system or out of heap.
 * @throws RingfoldError MODEL_TOO_LARGE with what it needs and what there is
 */
export function checkMemory(forecast: MemoryForecast, machine: TrainingMemory): void {
  if (bytesNeeded(forecast, machine) <= machine.memoryBytes) return;
  const { state, transfers } = forecast;
  const { memoryBytes, gpuMemoryBytes, isLimited } = machine;
  const lack = lackOfEngine(forecast, machine);
  const isOnGpu = lack === undefined && gpuMemoryBytes !== undefined;
  const isGpuSmall = lack !== undefined && gpuMemoryBytes !== undefined;
  const neededBytes = bytesOnMachine(forecast, lack === undefined ? gpuMemoryBytes : undefined);
  const parts = `weights and gradients ${gigabytes(forecast.engineParameters)}, state and optimizer ${gigabytes(state)}, activations ${gigabytes(activationsOf(forecast))}${isOnGpu ? " on the GPU" : ""}, checkpoints ${gigabytes(transfers)}`;
  const bound = lack ?? `${isLimited ? "this agent may use" : "the machine has"} ${gigabytes(memoryBytes)}`;
  const message = `training takes about ${gigabytes(neededBytes)} (${parts}), and ${bound}`;
  const data = isGpuSmall
    ? { neededBytes: bytesOnGpu(forecast), memoryBytes: gpuMemoryBytes }
    : { neededBytes, memoryBytes };
  throw new RingfoldError("MODEL_TOO_LARGE", message, data);
}

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;
