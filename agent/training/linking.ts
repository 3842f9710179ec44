import type { GenerationPlan } from "../../protocol/messages/job.ts";
import { doublingPartners } from "../../protocol/recursive-doubling.ts";
import type { DataPlane } from "../network/data-plane/data-plane.ts";
import type { FrameSocket } from "../network/data-plane/frame-socket.ts";
import { downstreamLink, ringLimits, upstreamLink } from "../network/data-plane/ring-links.ts";
import type { PeerLinks } from "../ring/link.ts";
import type { RingMemory } from "../ring/memory.ts";
import { Ring } from "../ring/ring.ts";

/** What a rank links with. */
interface Linker {
  readonly peerId: string;
  readonly plane: DataPlane;
  /** The ring sums in it, and what the first rank that is dialled sends arrives in it. */
  readonly memory?: RingMemory;
  /** Monotonic milliseconds. */
  readonly nowMs?: () => number;
}

/**
 * Dials and accepts by the plan: the neighbours of a ring, or the partners of recursive doubling.
 * @throws RingfoldError as `DataPlane.dial` and `DataPlane.accept`
 */
export async function linkRing(plan: GenerationPlan, self: Linker, signal: AbortSignal): Promise<Ring> {
  const worldSize = plan.ranks.length;
  const rank = plan.ranks.findIndex(({ peerId }) => peerId === self.peerId);
  if (worldSize === 1) return new Ring({ rank, worldSize });
  const { memory, nowMs } = self;
  const options = {
    ...{ rank, worldSize, ...ringLimits[plan.transport] },
    ...(plan.window === undefined ? {} : { window: plan.window }),
    ...(memory ? { memory } : {}),
    ...(nowMs ? { nowMs } : {}),
  };
  if (plan.algorithm === "ring") {
    const upstream = (rank + worldSize - 1) % worldSize;
    const downstream = (rank + 1) % worldSize;
    const sockets = await openLinks(plan, self, { dials: [upstream], accepts: [downstream] }, signal);
    return new Ring({ ...options, links: linksOf(sockets[0]!, sockets[1]!) });
  }
  const others = doublingPartners({ rank, worldSize });
  // Of a pair the higher rank dials.
  const dials = others.filter((other) => other < rank);
  const accepts = others.filter((other) => other > rank);
  const links = await linkPeers(plan, self, { dials, accepts }, signal);
  const partners = [...dials, ...accepts].map((other, i) => [other, links[i]!] as const);
  return new Ring({ ...options, partners: new Map(partners) });
}

/**
 * Opens one connection with each of them, to be used in both directions; of two ranks one dials.
 * @returns in the order of `dials`, then `accepts`, which are ranks of the plan
 * @throws RingfoldError as `DataPlane.dial` and `DataPlane.accept`
 */
export async function linkPeers(
  plan: GenerationPlan,
  self: Pick<Linker, "plane" | "memory">,
  ranks: { readonly dials: readonly number[]; readonly accepts: readonly number[] },
  signal: AbortSignal,
): Promise<readonly PeerLinks[]> {
  const sockets = await openLinks(plan, self, ranks, signal);
  return sockets.map((socket) => linksOf(socket, socket));
}

const linksOf = (upstream: FrameSocket, downstream: FrameSocket): PeerLinks => ({
  upstream: upstreamLink(upstream),
  downstream: downstreamLink(downstream),
});

/**
 * Links with all of them at the same time, or with none: when one cannot be linked, the others are not waited for.
 * @returns sockets in the order of `dials`, then `accepts`, which are ranks
 */
async function openLinks(
  { jobId, generation, ranks }: GenerationPlan,
  { plane, memory }: Pick<Linker, "plane" | "memory">,
  { dials, accepts }: { readonly dials: readonly number[]; readonly accepts: readonly number[] },
  signal: AbortSignal,
): Promise<readonly FrameSocket[]> {
  const purpose = { kind: "ring", jobId, generation } as const;
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const orFail = <T>(work: Promise<T>): Promise<T> => {
    work.catch((cause) => failed.abort(cause));
    return work;
  };
  const links = await Promise.allSettled([
    ...dials.map((rank, i) => {
      const options = i === 0 && memory ? { receiveRegion: memory.receiveRegion } : {};
      return orFail(plane.dial(ranks[rank]!, purpose, either, options));
    }),
    ...accepts.map((rank) => orFail(plane.accept(ranks[rank]!.peerId, purpose, either))),
  ]);
  const sockets = links.flatMap((link) => (link.status === "fulfilled" ? [link.value] : []));
  if (sockets.length === links.length) return sockets;
  for (const socket of sockets) socket.destroy();
  throw failed.signal.reason;
}
