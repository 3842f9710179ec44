import type { ExampleShape, Target } from "../../../protocol/data-schema.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { ModelSpec } from "../../../protocol/job-spec.ts";
import { endingLayer } from "../ending.ts";
import type { LayerJson } from "../graph.ts";

type CnnSpec = Extract<ModelSpec, { architecture: "cnn" }>;

/**
 * Blocks of convolution (ReLU) and 2x2 max-pool, dense ReLU layers, the answer. With the defaults on 28x28x1 and ten
 * classes: 54,410 parameters.
 */
export function cnnLayers(spec: CnnSpec, { inputShape, target }: ExampleShape): LayerJson[] {
  const layers: LayerJson[] = [];
  if (inputShape.length === 2) {
    layers.push({ class_name: "Reshape", config: { name: "reshape_1", target_shape: [...inputShape, 1] } });
  } else if (inputShape.length !== 3) {
    const shape = inputShape.join(", ");
    throw new RingfoldError("JOB_INVALID", `a cnn needs images, but the examples have shape [${shape}]`);
  }
  spec.filters.forEach((filters, i) => {
    const kernelSize = [spec.kernelSize, spec.kernelSize];
    layers.push(
      {
        class_name: "Conv2D",
        config: {
          name: `conv2d_${i + 1}`,
          filters,
          kernel_size: kernelSize,
          strides: [1, 1],
          padding: "valid",
          data_format: "channels_last",
          activation: "relu",
          use_bias: true,
        },
      },
      {
        class_name: "MaxPooling2D",
        config: { name: `max_pooling2d_${i + 1}`, pool_size: [2, 2], strides: [2, 2], padding: "valid" },
      },
    );
  });
  layers.push({ class_name: "Flatten", config: { name: "flatten_1" } });
  return [...layers, ...denseLayers(spec.hidden, target)];
}

/** Dense ReLU layers of the given widths, then the layer that answers. */
export function denseLayers(hidden: readonly number[], target: Target): LayerJson[] {
  return [
    ...hidden.map((units, i) => ({
      class_name: "Dense",
      config: { name: `dense_${i + 1}`, units, activation: "relu", use_bias: true },
    })),
    endingLayer(`dense_${hidden.length + 1}`, target),
  ];
}
