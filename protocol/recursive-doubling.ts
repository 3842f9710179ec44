/** One way over a link: `from` sends its whole vector to `to`, who sums it or, where it is complete, keeps it. */
export interface Hop {
  readonly from: number;
  readonly to: number;
}

export interface DoublingRound {
  readonly hops: readonly Hop[];
  /** The vectors of this round are complete sums. */
  readonly isComplete: boolean;
}

/**
 * The rounds of an all-reduce by recursive doubling: log2(W) rounds, in each of which ranks exchange their whole partial
 * sums in pairs, at twice the distance of the round before. Of a world that is no power of two, each of the first ranks
 * that are too many gives its vector to its neighbour before, and gets the sum after: two more rounds.
 *
 * Both ends of a pair add the same two numbers, and addition commutes, so after each round all ranks of a group have the
 * same bits.
 *
 * Source: Thakur, Rabenseifner & Gropp, "Optimization of collective communication operations in MPICH", 2005, section 4.5.
 */
export function doublingRounds(worldSize: number): readonly DoublingRound[] {
  const coreSize = 2 ** Math.floor(Math.log2(worldSize));
  const extraCount = worldSize - coreSize;
  // Of each of the first pairs the odd rank is in the core; those after the pairs all are.
  const rankOf = (core: number) => (core < extraCount ? 2 * core + 1 : core + extraCount);
  const extras = Array.from({ length: extraCount }, (_, i): Hop => ({ from: 2 * i, to: 2 * i + 1 }));
  const rounds: DoublingRound[] = [];
  if (extraCount > 0) rounds.push({ hops: extras, isComplete: false });
  for (let distance = 1; distance < coreSize; distance *= 2) {
    const hops = Array.from({ length: coreSize }, (_, core) => ({
      from: rankOf(core),
      to: rankOf(core ^ distance),
    }));
    rounds.push({ hops, isComplete: false });
  }
  if (extraCount > 0)
    rounds.push({ hops: extras.map(({ from, to }) => ({ from: to, to: from })), isComplete: true });
  return rounds;
}

/** Ranks that `rank` exchanges with, each once, in the order of rounds. */
export function doublingPartners(at: {
  readonly rank: number;
  readonly worldSize: number;
}): readonly number[] {
  const partners = doublingRounds(at.worldSize).flatMap(({ hops }) =>
    hops.flatMap(({ from, to }) => (from === at.rank ? [to] : to === at.rank ? [from] : [])),
  );
  return [...new Set(partners)];
}
