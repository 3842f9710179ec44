import { z } from "zod";
import { decode, encode } from "../../protocol/codec.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import { digestSchema } from "../../protocol/ids.ts";
import { limits } from "../../protocol/limits.ts";
import { sha256 } from "../artefact/store.ts";
import { type Frame, type FrameSocket, frameKind } from "../network/frame-socket.ts";

/**
 * Healing: a rank that is behind, or new, copies the whole training state (parameters and optimizer) from one that has
 * it, over the data plane, and believes it only when the SHA-256 matches.
 */
const announcementSchema = z.object({
  bytes: z.number().int().nonnegative().max(limits.artefactBytes),
  digest: digestSchema,
});

const announcementIndex = 0;

/** Sends `state` (an encoded checkpoint). @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | CANCELLED */
export async function sendState(socket: FrameSocket, state: Uint8Array, signal: AbortSignal): Promise<void> {
  socket.send(stateFrame(announcementIndex, encode({ bytes: state.byteLength, digest: sha256(state) })));
  for (let start = 0, index = 1; start < state.byteLength; start += limits.segmentBytes, index++) {
    socket.send(stateFrame(index, state.subarray(start, start + limits.segmentBytes)));
    await socket.drained(signal);
  }
  await socket.drained(signal);
  socket.end();
}

/** @throws RingfoldError ARTEFACT_CORRUPT | MESSAGE_INVALID | RING_BROKEN | HOP_TIMEOUT | CANCELLED */
export async function receiveState(socket: FrameSocket, signal: AbortSignal): Promise<Uint8Array> {
  const first = await nextFrame(socket, announcementIndex, signal);
  const announced = decode(first, announcementSchema, limits.segmentBytes);
  const state = new Uint8Array(announced.bytes);
  for (let start = 0, index = 1; start < state.byteLength; index++) {
    const part = await nextFrame(socket, index, signal);
    if (part.byteLength === 0 || start + part.byteLength > state.byteLength) throw unexpected(socket, index);
    state.set(part, start);
    start += part.byteLength;
  }
  if (sha256(state) !== announced.digest) {
    throw new RingfoldError("ARTEFACT_CORRUPT", `the state from ${socket.peerId} does not match its digest`, {
      peer: socket.peerId,
    });
  }
  return state;
}

async function nextFrame(socket: FrameSocket, index: number, signal: AbortSignal): Promise<Uint8Array> {
  const frame = await socket.receive(signal);
  if (frame.kind !== frameKind.state || frame.a !== index) throw unexpected(socket, index);
  return frame.payload;
}

const unexpected = (socket: FrameSocket, index: number): RingfoldError =>
  new RingfoldError("MESSAGE_INVALID", `frame ${index} of a state from ${socket.peerId} is out of place`, {
    peer: socket.peerId,
  });

const stateFrame = (index: number, payload: Uint8Array): Frame => ({
  kind: frameKind.state,
  a: index,
  b: 0,
  c: 0,
  d: 0,
  payload,
});
