import type { ExampleShape } from "../../../protocol/data-schema.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { ModelSpec } from "../../../protocol/job-spec.ts";
import { endingLayer } from "../ending.ts";
import { Wiring } from "./wiring.ts";

type ResidualSpec = Extract<ModelSpec, { architecture: "residual-cnn" }>;

/**
 * Stages of residual blocks with batch normalisation; each stage after the first halves the sides. Source: He et al., "Deep
 * residual learning for image recognition", 2016, with the shape of its networks for small images (section 4.2).
 */
export function residualTopology(
  spec: ResidualSpec,
  { inputShape, target }: ExampleShape,
): Record<string, unknown> {
  const wiring = new Wiring();
  const image = imageInput(wiring, inputShape);
  let last = convolved(wiring, "stem", image, { filters: spec.filters[0]!, strides: 1 });
  last = wiring.layer("Activation", "stem_relu", { activation: "relu" }, last);
  for (const [stage, filters] of spec.filters.entries()) {
    for (let i = 0; i < spec.blocks; i++) {
      const isFirst = stage > 0 && i === 0;
      const of = { filters, strides: isFirst ? 2 : 1, changesShape: isFirst };
      last = residualBlock(wiring, `stage_${stage + 1}_block_${i + 1}`, last, of);
    }
  }
  last = wiring.layer("GlobalAveragePooling2D", "average", {}, last);
  const answer = endingLayer("answer", target);
  return wiring.topology("residual_cnn", wiring.layer(answer.class_name, "answer", answer.config, last));
}

function imageInput(wiring: Wiring, inputShape: readonly number[]): string {
  if (inputShape.length !== 2 && inputShape.length !== 3) {
    const shape = inputShape.join(", ");
    throw new RingfoldError(
      "JOB_INVALID",
      `a residual-cnn needs images, but the examples have shape [${shape}]`,
    );
  }
  const image = wiring.input({ name: "image", shape: [...inputShape] });
  if (inputShape.length === 3) return image;
  return wiring.layer("Reshape", "channel", { target_shape: [...inputShape, 1] }, image);
}

interface Convolution {
  readonly filters: number;
  readonly strides: number;
}

function residualBlock(
  wiring: Wiring,
  name: string,
  from: string,
  of: Convolution & { readonly changesShape: boolean },
): string {
  const first = convolved(wiring, `${name}_1`, from, of);
  const relu = wiring.layer("Activation", `${name}_1_relu`, { activation: "relu" }, first);
  const second = convolved(wiring, `${name}_2`, relu, { ...of, strides: 1 });
  // What is added must have the shape of what comes out.
  const shortcut = of.changesShape ? convolved(wiring, `${name}_shortcut`, from, of, 1) : from;
  const sum = wiring.layer("Add", `${name}_sum`, {}, second, shortcut);
  return wiring.layer("Activation", `${name}_relu`, { activation: "relu" }, sum);
}

/** Convolution without a bias, which the normalisation would take away, and the normalisation. */
function convolved(wiring: Wiring, name: string, from: string, of: Convolution, side = 3): string {
  const { filters, strides } = of;
  const config = {
    ...{ filters, kernel_size: [side, side], strides: [strides, strides], padding: "same" },
    ...{ use_bias: false, kernel_initializer: { class_name: "HeNormal", config: {} } },
  };
  const convolution = wiring.layer("Conv2D", `${name}_conv`, config, from);
  return wiring.layer(
    "BatchNormalization",
    `${name}_norm`,
    { axis: -1, momentum: 0.9, epsilon: 1e-5 },
    convolution,
  );
}
