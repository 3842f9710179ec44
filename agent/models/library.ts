import type { ExampleShape, Target } from "../../protocol/data-schema.ts";
import type { ModelSpec } from "../../protocol/job-spec.ts";
import type { ModelDescription } from "../../protocol/messages/model.ts";
import { cnnLayers } from "./architectures/cnn.ts";
import { encoderDecoderTopology } from "./architectures/encoder-decoder.ts";
import { mlpLayers } from "./architectures/mlp.ts";
import { recurrentTopology } from "./architectures/recurrent.ts";
import { residualTopology } from "./architectures/residual-cnn.ts";
import { tabularTopology } from "./architectures/tabular.ts";
import { transformerLmTopology } from "./architectures/transformer-lm.ts";
import { twoTowerTopology } from "./architectures/two-tower.ts";
import { checkEnding } from "./ending.ts";
import type { Graph } from "./graph.ts";
import { describeModel, readTopology, sequentialTopology } from "./topology.ts";

export interface Model {
  readonly description: ModelDescription;
  readonly graph: Graph;
  readonly target: Target;
}

/**
 * The model of a job, for data of one shape: the entry of the library. A model is data (a TF.js topology), whichever
 * architecture it comes from; nothing is built here.
 * @throws RingfoldError JOB_INVALID when it does not fit the data, naming the layer
 */
export function modelOf(spec: ModelSpec, shape: ExampleShape): Model {
  const topology = topologyOf(spec, shape);
  const graph = readTopology(topology, shape);
  checkEnding(graph, shape.target);
  return { description: describeModel(topology, shape, graph), graph, target: shape.target };
}

function topologyOf(spec: ModelSpec, shape: ExampleShape): Record<string, unknown> {
  switch (spec.architecture) {
    case "cnn":
      return sequentialTopology("cnn", withInput(cnnLayers(spec, shape), shape.inputShape));
    case "mlp":
      return sequentialTopology("mlp", withInput(mlpLayers(spec, shape), shape.inputShape));
    case "tabular":
      return tabularTopology(spec, shape);
    case "residual-cnn":
      return residualTopology(spec, shape);
    case "recurrent":
      return recurrentTopology(spec, shape);
    case "transformer-lm":
      return transformerLmTopology(spec, shape);
    case "encoder-decoder":
      return encoderDecoderTopology(spec, shape);
    case "two-tower":
      return twoTowerTopology(spec, shape);
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
