import { RingfoldError } from "../../protocol/errors.ts";
import type { WireTensor } from "../../protocol/messages/serving.ts";

/** f32 numbers with their shape, batch first: what engines take and give. */
export interface Tensor {
  readonly shape: readonly number[];
  readonly data: Float32Array;
}

export const elementCount = (shape: readonly number[]): number =>
  shape.reduce((product, size) => product * size, 1);

/** `[2,28,28,1]`, for messages. */
export const showShape = (shape: readonly (number | string)[]): string => `[${shape.join(",")}]`;

/** A view, no copy: do not change the tensor until the message is sent. */
export function toWire(tensor: Tensor): WireTensor {
  const { buffer, byteOffset, byteLength } = tensor.data;
  return { shape: [...tensor.shape], data: new Uint8Array(buffer, byteOffset, byteLength) };
}

/**
 * Copies only when the bytes lie at an odd address, as they do inside a decoded message. Every platform that Node's
 * releases run TF.js on is little-endian, as the wire is.
 * @throws RingfoldError REQUEST_INVALID when the bytes do not fit the shape
 */
export function fromWire(wire: WireTensor): Tensor {
  const expectedBytes = elementCount(wire.shape) * Float32Array.BYTES_PER_ELEMENT;
  if (wire.data.byteLength !== expectedBytes) {
    throw new RingfoldError(
      "REQUEST_INVALID",
      `a tensor of shape ${showShape(wire.shape)} has ${expectedBytes} bytes, not ${wire.data.byteLength}`,
      { expectedBytes, bytes: wire.data.byteLength },
    );
  }
  const misaligned = wire.data.byteOffset % Float32Array.BYTES_PER_ELEMENT !== 0;
  // Not `slice`: a decoded message gives Buffers, whose `slice` is a view at the same odd address.
  const bytes = misaligned ? Uint8Array.from(wire.data) : wire.data;
  return {
    shape: wire.shape,
    data: new Float32Array(bytes.buffer, bytes.byteOffset, expectedBytes / Float32Array.BYTES_PER_ELEMENT),
  };
}
