/** An agent that is there, and which artefacts it said that it holds. */
export interface Holder {
  readonly peerId: string;
  readonly holds: ReadonlySet<string>;
  /** On its way out: it gives what it holds to others, and what it holds is no copy to count on. */
  readonly isLeaving: boolean;
}

/**
 * Which agents are to fetch which artefacts, so that each is held by as many as wanted. Nobody is asked for what no
 * agent has that is there. The choice is the same as long as the agents are: those with the fewest first.
 * @returns digests by peer, only for agents that are asked
 * Cost: for each agent once over what it holds, or over the artefacts if these are fewer; and over the agents for each artefact that is short of holders.
 */
export function decideReplicas(
  digests: readonly string[],
  agents: readonly Holder[],
  replicaCount: number,
): Map<string, string[]> {
  if (digests.length === 0) return new Map();
  const holderCounts = new Map(digests.map((digest) => [digest, 0]));
  const given = new Set<string>();
  const staying = agents.filter(({ isLeaving }) => !isLeaving);
  const loads = new Map(staying.map(({ peerId }) => [peerId, 0]));
  const weigh = (peerId: string) => loads.set(peerId, loads.get(peerId)! + 1);
  for (const { peerId, holds, isLeaving } of agents) {
    // Over the shorter one: an agent may hold very much that is not asked about.
    const held = holds.size < digests.length ? holds : digests.filter((digest) => holds.has(digest));
    for (const digest of held) {
      const count = holderCounts.get(digest);
      if (count === undefined) continue;
      if (isLeaving) {
        given.add(digest);
        continue;
      }
      holderCounts.set(digest, count + 1);
      weigh(peerId);
    }
  }
  const asked = new Map<string, string[]>();
  for (const [digest, count] of holderCounts) {
    if ((count === 0 && !given.has(digest)) || count >= replicaCount) continue;
    const others = staying
      .filter(({ holds }) => !holds.has(digest))
      .map(({ peerId }) => peerId)
      .sort((one, other) => loads.get(one)! - loads.get(other)! || (one < other ? -1 : 1));
    for (const peerId of others.slice(0, replicaCount - count)) {
      asked.set(peerId, [...(asked.get(peerId) ?? []), digest]);
      weigh(peerId);
    }
  }
  return asked;
}

/** Whether an agent on its way out holds something that nobody has who stays, where somebody stays who could. */
export function holdsLastCopy(
  leaver: Holder,
  digests: readonly string[],
  agents: readonly Holder[],
): boolean {
  const staying = agents.filter(({ peerId, isLeaving }) => !isLeaving && peerId !== leaver.peerId);
  if (staying.length === 0) return false;
  return digests.some(
    (digest) => leaver.holds.has(digest) && !staying.some(({ holds }) => holds.has(digest)),
  );
}
