import { frameBytes } from "../../agent/network/data-plane/frame-format.ts";
import type { DownstreamLink, Segment, UpstreamLink } from "../../agent/ring/link.ts";
import { RingfoldError } from "../../protocol/errors.ts";

/** One direction of a ring in memory: what is sent is copied, as a socket would, counted as one, and read in order. */
export function memoryLink(from: string, to: string): { upstream: UpstreamLink; downstream: DownstreamLink } {
  const queue: Segment[] = [];
  const count = { sent: 0, received: 0 };
  let broken: RingfoldError | undefined;
  let wake: (() => void) | undefined;
  const closing = new AbortController();
  const destroy = () => {
    broken ??= new RingfoldError("RING_BROKEN", "the link closed", { peer: from });
    closing.abort(broken);
    wake?.();
  };
  return {
    upstream: {
      peerId: from,
      get bytesReceived() {
        return count.received;
      },
      receive: async (signal) => {
        while (queue.length === 0) {
          if (broken) throw broken;
          signal.throwIfAborted();
          await new Promise<void>((resolve) => {
            wake = resolve;
            signal.addEventListener("abort", () => resolve(), { once: true });
          });
        }
        const segment = queue.shift()!;
        count.received += frameBytes(segment.payload.length);
        return segment;
      },
      hopTimeoutMs: 0,
      destroy,
    },
    downstream: {
      peerId: to,
      pendingCount: 0,
      get bytesSent() {
        return count.sent;
      },
      hopTimeoutMs: 0,
      closed: closing.signal,
      send: (segment) => {
        if (broken) return;
        count.sent += frameBytes(segment.payload.length);
        queue.push({ ...segment, payload: segment.payload.slice() });
        wake?.();
      },
      drained: async () => {}, // nothing is ever pending
      destroy,
    },
  };
}

/** `links[r]` are rank r's ends of a ring of `worldSize`. */
export function memoryRing(worldSize: number): { upstream: UpstreamLink; downstream: DownstreamLink }[] {
  const hops = Array.from({ length: worldSize }, (_, rank) =>
    memoryLink(`rank-${rank}`, `rank-${(rank + 1) % worldSize}`),
  );
  return hops.map((hop, rank) => ({
    downstream: hop.downstream,
    upstream: hops[(rank + worldSize - 1) % worldSize]!.upstream,
  }));
}
