import { RingfoldError } from "../../protocol/errors.ts";
import type { JobSpec } from "../../protocol/job-spec.ts";
import type { ModelDescription } from "../../protocol/messages/model.ts";

/** What a trainer will hold at most, in bytes. */
interface MemoryForecast {
  /** Weights and their gradients in the engine. */
  readonly engineParameters: number;
  /** State, exchanged vector and optimizer on the flat parameters. */
  readonly state: number;
  /** Outputs of all layers for one rank's slice, kept for the way back. */
  readonly activations: number;
}

/** TF.js's heap in WebAssembly can grow so far; the other engines are bounded by the machine alone. */
const wasmHeapBytes = 2 ** 32;
/** What the process itself takes: Node.js, TF.js, sockets. */
const processBytes = 200 * 2 ** 20;
/** Of a layer's output: itself, what was computed on the way to it, and its gradient. */
const copiesOfOutput = 3;
const slotCount = { sgd: 1, adam: 2, adamw: 2, rmsprop: 2 } as const;

/** By shapes alone, for the smallest world that may train: nothing is built. */
export function forecastMemory(
  spec: Pick<
    JobSpec,
    "batchSize" | "microBatchSize" | "workers" | "optimizer" | "wire" | "topK" | "checkpoint"
  >,
  model: ModelDescription,
): MemoryForecast {
  const slice = Math.ceil(spec.batchSize / spec.workers.min);
  const examples = Math.min(slice, spec.microBatchSize ?? slice);
  const isCut = examples < slice;
  const isLossy = spec.wire !== "f32" || spec.topK !== undefined;
  const sizeOf = (shape: readonly number[]) => shape.reduce((product, length) => product * length, 1);
  const outputs = model.layers.reduce((sum, { outputShape }) => sum + sizeOf(outputShape), 0);
  const kept = model.layers.reduce((sum, { keptElements = 0 }) => sum + keptElements, 0);
  const arrays =
    2 +
    slotCount[spec.optimizer.kind] +
    (isLossy ? 1 : 0) +
    (isCut ? 1 : 0) +
    (spec.checkpoint.keepBest ? 1 : 0);
  return {
    engineParameters: 4 * 2 * model.parameterCount,
    state: 4 * arrays * model.parameterCount,
    activations: 4 * examples * (sizeOf(model.inputShape) + copiesOfOutput * outputs + kept),
  };
}

/**
 * Refuses before the first step what would end in the middle of it, killed by the system or out of heap.
 * @param memoryBytes that this machine, or its container, has
 * @throws RingfoldError MODEL_TOO_LARGE with what it needs and what there is
 */
export function checkMemory(
  forecast: MemoryForecast,
  machine: { readonly memoryBytes: number; readonly engine: string },
): void {
  const engineBytes = forecast.engineParameters + forecast.activations;
  const neededBytes = processBytes + engineBytes + forecast.state;
  const isHeapFull = machine.engine === "wasm" && engineBytes > wasmHeapBytes;
  if (neededBytes <= machine.memoryBytes && !isHeapFull) return;
  const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB`;
  const parts = `weights and gradients ${gigabytes(forecast.engineParameters)}, state and optimizer ${gigabytes(forecast.state)}, activations ${gigabytes(forecast.activations)}`;
  const bound = isHeapFull
    ? `the wasm engine has a heap of ${gigabytes(wasmHeapBytes)}`
    : `the machine has ${gigabytes(machine.memoryBytes)}`;
  const message = `training takes about ${gigabytes(neededBytes)} (${parts}), and ${bound}`;
  throw new RingfoldError("MODEL_TOO_LARGE", message, { neededBytes, memoryBytes: machine.memoryBytes });
}
