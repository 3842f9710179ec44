import type { ExampleShape, Target } from "../../protocol/data-schema.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import type { ModelSpec } from "../../protocol/job-spec.ts";
import type { ModelDescription } from "../../protocol/messages/model.ts";
import { cnnLayers } from "./cnn.ts";
import type { Layer } from "./layer-kinds.ts";
import { checkClassifier } from "./layers.ts";
import { mlpLayers } from "./mlp.ts";
import { describeModel, readTopology, sequentialTopology } from "./topology.ts";

export interface Model {
  readonly description: ModelDescription;
  readonly layers: readonly Layer[];
  readonly target: Target;
}

/**
 * The model of a job, for data of one shape: the entry of the library. A model is data (a TF.js topology), whichever
 * architecture it comes from; nothing is built here.
 * @throws RingfoldError JOB_INVALID when it does not fit the data, naming the layer
 */
export function modelOf(spec: ModelSpec, { inputShape, target }: ExampleShape): Model {
  if (target.kind !== "class") {
    const message = `a model of kind ${spec.architecture} tells classes apart, and the target is of kind ${target.kind}`;
    throw new RingfoldError("JOB_INVALID", message, { target: target.kind });
  }
  const topology = topologyOf(spec, inputShape, target.classCount);
  const layers = readTopology(topology, inputShape);
  checkClassifier(layers, target.classCount);
  return { description: describeModel(topology, inputShape, layers), layers, target };
}

function topologyOf(
  spec: ModelSpec,
  inputShape: readonly number[],
  classCount: number,
): Record<string, unknown> {
  switch (spec.architecture) {
    case "cnn":
      return sequentialTopology("cnn", withInput(cnnLayers(spec, inputShape, classCount), inputShape));
    case "mlp":
      return sequentialTopology("mlp", withInput(mlpLayers(spec, inputShape, classCount), inputShape));
    case "layers":
      return spec.topology;
  }
}

/** The first layer of a TF.js topology carries the shape of a batch. */
function withInput<Json extends { readonly config: object }>(
  layers: readonly Json[],
  inputShape: readonly number[],
) {
  return layers.map((layer, i) =>
    i === 0 ? { ...layer, config: { ...layer.config, batch_input_shape: [null, ...inputShape] } } : layer,
  );
}
