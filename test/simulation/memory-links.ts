import { frameBytes } from "../../agent/network/data-plane/frame-format.ts";
import type { PeerLinks, Segment } from "../../agent/ring/link.ts";
import { RingfoldError } from "../../protocol/errors.ts";
import { doublingPartners } from "../../protocol/recursive-doubling.ts";

/** One direction of a ring in memory: what is sent is copied, as a socket would, counted as one, and read in order. */
export function memoryLink(from: string, to: string): PeerLinks {
  const queue: Segment[] = [];
  const count = { sent: 0, received: 0 };
  let broken: RingfoldError | undefined;
  let wake: (() => void) | undefined;
  const closing = new AbortController();
  const destroy = () => {
    if (broken) return;
    broken = new RingfoldError("RING_BROKEN", "the link closed", { peer: from });
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
export function memoryRing(worldSize: number): PeerLinks[] {
  const hops = Array.from({ length: worldSize }, (_, rank) =>
    memoryLink(`rank-${rank}`, `rank-${(rank + 1) % worldSize}`),
  );
  return hops.map((hop, rank) => ({
    downstream: hop.downstream,
    upstream: hops[(rank + worldSize - 1) % worldSize]!.upstream,
  }));
}

/** The two ends of one connection, each with both directions. */
export function memoryConnection(one: string, other: string): readonly [PeerLinks, PeerLinks] {
  const [there, back] = [memoryLink(one, other), memoryLink(other, one)];
  // Two directions of one connection end together.
  there.downstream.closed.addEventListener("abort", back.downstream.destroy);
  back.downstream.closed.addEventListener("abort", there.downstream.destroy);
  return [
    { upstream: back.upstream, downstream: there.downstream },
    { upstream: there.upstream, downstream: back.downstream },
  ];
}

/** `partners[r]` are rank r's connections to those that it exchanges with by recursive doubling. */
export function memoryPairs(worldSize: number): ReadonlyMap<number, PeerLinks>[] {
  const all = Array.from({ length: worldSize }, () => new Map<number, PeerLinks>());
  for (const rank of all.keys()) {
    for (const other of doublingPartners({ rank, worldSize }).filter((partner) => partner > rank)) {
      const [ours, theirs] = memoryConnection(`rank-${rank}`, `rank-${other}`);
      all[rank]!.set(other, ours);
      all[other]!.set(rank, theirs);
    }
  }
  return all;
}
