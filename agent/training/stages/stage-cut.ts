import { RingfoldError } from "../../../protocol/errors.ts";
import { type JobSpec, microBatchSizeOf } from "../../../protocol/job-spec.ts";
import { cutIntoShards, type LayerRange, shapeAcross, shardCountMaxOf } from "../../../protocol/layer-cut.ts";
import type { LayerDescription, ModelDescription } from "../../../protocol/messages/model.ts";
import { bytesOfLayer, bytesOfState, type MemoryForecast } from "../memory-forecast.ts";

export type StageSpec = Pick<
  JobSpec,
  "batchSize" | "microBatchSize" | "stages" | "workers" | "optimizer" | "wire" | "topK" | "checkpoint"
>;

/**
 * Which layers each stage trains: a function of job and model alone, so that all agents cut alike. Balances time
 * (multiply-adds) and memory (weights, gradients, optimizer, and the activations of a micro-batch).
 * @throws RingfoldError JOB_INVALID when the model cannot be cut into so many
 */
export function cutIntoStages(
  spec: StageSpec & { readonly stages: number },
  model: ModelDescription,
): LayerRange[] {
  const { layers } = model;
  const stagesMax = shardCountMaxOf(model);
  if (spec.stages > stagesMax) {
    const message = `stages: ${spec.stages}, and this model has ${stagesMax} layers`;
    throw new RingfoldError("JOB_INVALID", message, { stages: spec.stages, stagesMax });
  }
  const examples = examplesOf(spec);
  const memory = (layer: LayerDescription) => {
    const { parameters, activations } = bytesOfLayer(spec, layer);
    return parameters + examples * activations;
  };
  return cutIntoShards(layers, spec.stages, [({ multiplyAdds }) => multiplyAdds, memory]);
}

/** What the trainer of one stage will hold at most, in bytes. */
export function forecastStage(
  spec: StageSpec & { readonly stages: number },
  model: ModelDescription,
  { fromLayer, toLayer }: LayerRange,
): MemoryForecast {
  const layers = model.layers.slice(fromLayer, toLayer);
  const sum = (of: (layer: LayerDescription) => number) =>
    layers.reduce((total, layer) => total + of(layer), 0);
  const parameterCount = sum((layer) => layer.parameterCount);
  const inputSize = shapeAcross(model, fromLayer).reduce((product, length) => product * length, 1);
  const engineParameters = 4 * 2 * parameterCount;
  // What came in of all micro-batches that are under way, twice, as the next ones may wait in the sockets.
  const exampleBytes = sum((layer) => bytesOfLayer(spec, layer).activations) + 8 * spec.stages * inputSize;
  return {
    engineParameters,
    state: sum((layer) => bytesOfLayer(spec, layer).parameters) - engineParameters,
    activations: examplesOf(spec) * exampleBytes,
    evaluation: microBatchSizeOf(spec) * exampleBytes,
    // At a checkpoint this stage's state, and a neighbour's as it comes and as the store takes it; at the end the weights of
    // all stages, gathered, as a file, and as the store takes that.
    transfers: Math.max(3 * bytesOfState(spec, parameterCount), 3 * 4 * model.parameterCount),
  };
}

/** Of a micro-batch, in the smallest world that may train. */
function examplesOf(spec: StageSpec & { readonly stages: number }): number {
  const replicas = Math.max(1, Math.floor(spec.workers.min / spec.stages));
  return Math.min(Math.ceil(spec.batchSize / replicas), microBatchSizeOf(spec));
}
