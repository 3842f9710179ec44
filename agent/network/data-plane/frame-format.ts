import { limits } from "../../../protocol/limits.ts";
import type { Frame } from "./frame-socket.ts";

/**
 * A frame on the wire: six little-endian u32 (kind, a, b, c, d, length of the payload) in a header of 64 bytes, the
 * payload, and what pads it to a multiple of 64. So every frame starts at a cache line of an aligned receive buffer.
 */
export const frameHeaderBytes: number = limits.frameHeaderBytes;
/** A frame is a segment, a hello or a piece of state: never more. */
export const payloadBytesMax = Math.max(limits.segmentBytes, limits.segmentBytesPlain);

export const frameBytes = (payloadBytes: number): number =>
  frameHeaderBytes + frameHeaderBytes * Math.ceil(payloadBytes / frameHeaderBytes);

/** The whole frame as bytes: in place where there is headroom, else in a copy. */
export function encodeFrame(frame: Frame): Buffer {
  const { payload } = frame;
  const length = frameBytes(payload.byteLength);
  let bytes: Buffer;
  if (frame.headroom) {
    bytes = Buffer.from(payload.buffer, payload.byteOffset - frameHeaderBytes, length);
  } else {
    bytes = Buffer.alloc(length);
    bytes.set(payload, frameHeaderBytes);
  }
  bytes.writeUInt32LE(frame.kind, 0);
  bytes.writeUInt32LE(frame.a, 4);
  bytes.writeUInt32LE(frame.b, 8);
  bytes.writeUInt32LE(frame.c, 12);
  bytes.writeUInt32LE(frame.d, 16);
  bytes.writeUInt32LE(payload.byteLength, 20);
  return bytes;
}
