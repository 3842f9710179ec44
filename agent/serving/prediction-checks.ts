import { RingfoldError } from "../../protocol/errors.ts";
import { shapeAcross } from "../../protocol/layer-cut.ts";
import { limits } from "../../protocol/limits.ts";
import type { Placement, Shard, WireTensor } from "../../protocol/messages/serving.ts";
import { elementCount, showShape, type Tensor } from "./wire-tensor.ts";

/** What must hold at both ends of a hop, so that a wrong tensor is named where it appears and never becomes an answer. */

/**
 * Checks the shape against the model, and that the batch fits in one message before each shard.
 * @throws RingfoldError REQUEST_INVALID | PAYLOAD_TOO_LARGE
 */
export function checkInput({ name, version, manifest, shards }: Placement, input: Tensor): void {
  const { inputShape } = manifest.model;
  const [batch = 0, ...exampleShape] = input.shape;
  if (batch < 1 || !sameShape(exampleShape, inputShape)) {
    throw new RingfoldError(
      "REQUEST_INVALID",
      `shape ${showShape(input.shape)} of the input does not fit ${name}@${version}, which takes ` +
        `${showShape(["n", ...inputShape])} with n at least 1`,
      { field: "shape" },
    );
  }
  const widest = Math.max(
    elementCount(inputShape),
    ...shards.map((shard) => elementCount(outputShapeOf(manifest.model, shard))),
  );
  const batchMax = Math.floor(limits.tensorBytes / (widest * Float32Array.BYTES_PER_ELEMENT));
  if (batch > batchMax) {
    throw new RingfoldError(
      "PAYLOAD_TOO_LARGE",
      `a batch of ${batch} is too large for ${name}@${version}: its tensors between shards allow ${batchMax}`,
      { batch, batchMax },
    );
  }
}

/**
 * Checks what a replica answered. A replica that holds another cut of the model shows here.
 * @throws RingfoldError MESSAGE_INVALID
 */
export function checkOutput(placement: Placement, shard: Shard, input: WireTensor, output: WireTensor): void {
  const expected = [input.shape[0] ?? 0, ...outputShapeOf(placement.manifest.model, shard)];
  const expectedBytes = elementCount(expected) * Float32Array.BYTES_PER_ELEMENT;
  if (!sameShape(output.shape, expected) || output.data.byteLength !== expectedBytes) {
    throw new RingfoldError(
      "MESSAGE_INVALID",
      `shard ${shard.shardIndex} of ${placement.name}@${placement.version} answered ${output.data.byteLength} bytes ` +
        `of shape ${showShape(output.shape)}, not ${showShape(expected)}`,
    );
  }
}

/**
 * The last shard's word: a client could do nothing with such a number, and JSON has no word for it.
 * @throws RingfoldError NOT_FINITE
 */
export function checkAnswer({ name, version }: Placement, answer: Tensor): void {
  if (answer.data.every(Number.isFinite)) return;
  throw new RingfoldError("NOT_FINITE", `${name}@${version} gave a number that is not finite`, {
    remedy: "Look at the scale of the input, then at the training of this version.",
  });
}

const outputShapeOf = (model: Placement["manifest"]["model"], { toLayer }: Shard): readonly number[] =>
  shapeAcross(model, toLayer);

const sameShape = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((size, index) => size === b[index]);
