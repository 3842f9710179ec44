/** A live agent, and which artefacts it said that it holds. */
export interface Holder {
  readonly peerId: string;
  readonly holds: ReadonlySet<string>;
}

/**
 * Which agents are to fetch which artefacts, so that each is held by as many as wanted. Nobody is asked for what no live
 * agent has. The choice is the same as long as the agents are: those with the fewest first.
 * @returns digests by peer, only for agents that are asked
 * Cost: for each agent once over what it holds, or over the artefacts if these are fewer; and over the agents for each artefact that is short of holders.
 */
export function decideReplicas(
  digests: readonly string[],
  agents: readonly Holder[],
  replicaCount: number,
): Map<string, string[]> {
  const holderCounts = new Map(digests.map((digest) => [digest, 0]));
  const loads = new Map(agents.map(({ peerId }) => [peerId, 0]));
  const weigh = (peerId: string) => loads.set(peerId, loads.get(peerId)! + 1);
  for (const { peerId, holds } of agents) {
    // Over the shorter one: an agent may hold very much that is not asked about.
    const held = holds.size < digests.length ? holds : digests.filter((digest) => holds.has(digest));
    for (const digest of held) {
      const count = holderCounts.get(digest);
      if (count === undefined) continue;
      holderCounts.set(digest, count + 1);
      weigh(peerId);
    }
  }
  const asked = new Map<string, string[]>();
  for (const [digest, count] of holderCounts) {
    if (count === 0 || count >= replicaCount) continue;
    const others = agents
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
