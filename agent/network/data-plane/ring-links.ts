import { RingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import { segmentFlows } from "../../../protocol/segment-flow.ts";
import type { DownstreamLink, PlaceSegment, Segment, UpstreamLink } from "../../ring/link.ts";
import { type Frame, type FrameSocket, frameKind, type PlaceFrame } from "./frame-socket.ts";

/** What a ring may do with links of this transport. */
export const ringLimits = {
  encrypted: { ...segmentFlows.encrypted, linkBytesMax: limits.tlsKeyBytesMax },
  plaintext: segmentFlows.plaintext,
} as const;

/** A data socket as the receiving end of a ring hop. */
export function upstreamLink(socket: FrameSocket): UpstreamLink {
  const { peerId } = socket;
  const each = socket.receiveEach?.bind(socket);
  return {
    peerId,
    get bytesReceived() {
      return socket.bytesReceived;
    },
    receive: async (signal) => segmentOf(await socket.receive(signal), peerId),
    ...(each
      ? {
          receiveEach: (take, signal, place) =>
            each(
              (frame) => take(segmentOf(frame, peerId)),
              signal,
              place && ((frame) => placeOf(frame, place)),
            ),
        }
      : {}),
    get hopTimeoutMs() {
      return socket.hopTimeoutMs;
    },
    set hopTimeoutMs(timeoutMs) {
      socket.hopTimeoutMs = timeoutMs;
    },
    destroy: () => socket.destroy(),
  };
}

/** A data socket as the sending end of a ring hop. */
export function downstreamLink(socket: FrameSocket): DownstreamLink {
  return {
    peerId: socket.peerId,
    get pendingCount() {
      return socket.pendingCount;
    },
    get bytesSent() {
      return socket.bytesSent;
    },
    get hopTimeoutMs() {
      return socket.hopTimeoutMs;
    },
    set hopTimeoutMs(timeoutMs) {
      socket.hopTimeoutMs = timeoutMs;
    },
    closed: socket.closed,
    send: (segment) => socket.send(frameOf(segment)),
    drained: (signal, pendingMax) => socket.drained(signal, pendingMax),
    destroy: () => socket.destroy(),
  };
}

/** Stage and wire share a word; a ring of the largest size has 510 stages. */
const stageBits = 16;

function frameOf(segment: Segment): Frame {
  return {
    kind: frameKind.segment,
    a: segment.operation,
    b: (segment.wireCode << stageBits) | segment.stage,
    c: segment.segmentIndex,
    d: segment.elementCount,
    payload: segment.payload,
    headroom: segment.headroom === true,
  };
}

function segmentOf({ payload, ...frame }: Frame, peer: string): Segment {
  if (frame.kind !== frameKind.segment)
    throw new RingfoldError("MESSAGE_INVALID", `frame kind ${frame.kind} in a ring`, { peer });
  return { ...headOf(frame), payload };
}

/** What is no segment has no place, and is refused when it is here. */
const placeOf = (
  { payloadBytes, ...frame }: Parameters<PlaceFrame>[0],
  place: PlaceSegment,
): ReturnType<PlaceFrame> =>
  frame.kind === frameKind.segment ? place({ ...headOf(frame), payloadBytes }) : undefined;

const headOf = ({ a, b, c, d }: Omit<Frame, "payload">): Omit<Segment, "payload"> => ({
  operation: a,
  stage: b & ((1 << stageBits) - 1),
  wireCode: b >>> stageBits,
  segmentIndex: c,
  elementCount: d,
});
