import type { JobSpec } from "../protocol/job-spec.ts";
import type { CoordinatorContext } from "./context.ts";
import type { PeerFact } from "./decide/job.ts";

/**
 * What a job is decided from: every peer, and whether it may work for this one. An agent works for one job at a time: a
 * trainer takes all of its cores and most of its memory.
 * @param busy who works for another job
 */
export function peerFacts(
  { peers, clock }: Pick<CoordinatorContext, "peers" | "clock">,
  spec: Pick<JobSpec, "engine">,
  busy: ReadonlySet<string>,
): ReadonlyMap<string, PeerFact> {
  const nowMs = clock.nowMs();
  return new Map(
    peers.all().map((peer) => {
      const { peerId, name, incarnation } = peer.hello;
      const mayRun = spec.engine !== "torch" || peer.hello.capabilities.scripts;
      const eligible =
        peer.roles.includes("worker") && peers.isLive(peer, nowMs) && !busy.has(peerId) && mayRun;
      const connected = !["left", "dead"].includes(peers.state(peer, nowMs));
      const silentMs = nowMs - peer.lastSeenMs;
      const flapping = peers.isFlapping(peerId, nowMs);
      const { leaving } = peer;
      return [peerId, { peerId, name, incarnation, connected, silentMs, leaving, eligible, flapping }];
    }),
  );
}
