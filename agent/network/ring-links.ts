import { RingfoldError } from "../../protocol/errors.ts";
import type { DownstreamLink, UpstreamLink } from "../ring/link.ts";
import { type FrameSocket, frameKind } from "./frame-socket.ts";

/** A data socket as the receiving end of a ring hop. */
export function upstreamLink(socket: FrameSocket): UpstreamLink {
  return {
    peerId: socket.peerId,
    receive: async (signal) => {
      const { kind, a, b, c, d, payload } = await socket.receive(signal);
      if (kind !== frameKind.segment) {
        throw new RingfoldError("MESSAGE_INVALID", `frame kind ${kind} in a ring`, { peer: socket.peerId });
      }
      return { operation: a, stage: b, segmentIndex: c, elementCount: d, payload };
    },
    destroy: () => socket.destroy(),
  };
}

/** A data socket as the sending end of a ring hop. */
export function downstreamLink(socket: FrameSocket): DownstreamLink {
  return {
    peerId: socket.peerId,
    send: ({ operation, stage, segmentIndex, elementCount, payload }) =>
      socket.send({
        kind: frameKind.segment,
        a: operation,
        b: stage,
        c: segmentIndex,
        d: elementCount,
        payload,
      }),
    drained: (signal) => socket.drained(signal),
    destroy: () => socket.destroy(),
  };
}
