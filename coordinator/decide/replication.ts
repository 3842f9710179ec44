/** A live agent, and which data sets it said that it holds. */
export interface DataHolder {
  readonly peerId: string;
  readonly holds: ReadonlySet<string>;
}

/**
 * Which agents are to fetch which data sets, so that each is held by as many as wanted. Nobody is asked for a data set that
 * no live agent has. The choice is the same as long as the agents are: those with the fewest data sets first.
 * @returns digests by peer, only for agents that are asked
 */
export function decideReplicas(
  digests: readonly string[],
  agents: readonly DataHolder[],
  replicaCount: number,
): Map<string, string[]> {
  const loads = new Map(
    agents.map(({ peerId, holds }) => [peerId, digests.filter((digest) => holds.has(digest)).length]),
  );
  const asked = new Map<string, string[]>();
  for (const digest of digests) {
    const holders = agents.filter(({ holds }) => holds.has(digest));
    if (holders.length === 0) continue;
    const others = agents
      .filter((agent) => !holders.includes(agent))
      .sort((a, b) => loads.get(a.peerId)! - loads.get(b.peerId)! || (a.peerId < b.peerId ? -1 : 1));
    for (const { peerId } of others.slice(0, Math.max(0, replicaCount - holders.length))) {
      asked.set(peerId, [...(asked.get(peerId) ?? []), digest]);
      loads.set(peerId, loads.get(peerId)! + 1);
    }
  }
  return asked;
}
