import { RingfoldError } from "../../protocol/errors.ts";
import type { Layer } from "./layer-kinds.ts";

/**
 * Whether the model gives probabilities of `classCount` classes: it must end in a softmax, as training takes the
 * cross-entropy of what stands before it, and serving hands out what comes after.
 * @throws RingfoldError JOB_INVALID naming the mismatch
 */
export function checkClassifier(layers: readonly Layer[], classCount: number): void {
  const last = layers.at(-1);
  const outputShape = last?.outputShape ?? [];
  if (outputShape.length !== 1 || outputShape[0] !== classCount) {
    const shape = outputShape.join(", ");
    const message = `the model puts out shape [${shape}], but the data has ${classCount} classes`;
    throw new RingfoldError("JOB_INVALID", message, { layer: last?.name ?? null });
  }
  if (!last || !endsInSoftmax(last)) {
    const name = last?.name ?? "";
    const message = `the last layer, ${name}, is no softmax: give it activation "softmax"`;
    throw new RingfoldError("JOB_INVALID", message, { layer: name });
  }
}

/** Whether the layer's last operation is a softmax over the last axis. */
export function endsInSoftmax(layer: Layer): boolean {
  switch (layer.kind) {
    case "Softmax":
      return true;
    case "Dense":
    case "Conv2D":
    case "DepthwiseConv2D":
    case "Activation":
      return layer.config.activation === "softmax";
    default:
      return false;
  }
}
