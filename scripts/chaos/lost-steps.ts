/** Somebody says that a step was committed in a generation. */
export interface StepEvidence {
  readonly generation: number;
  readonly step: number;
  readonly peerId: string;
}

interface Generation {
  readonly generation: number;
  readonly startedAtMs: number;
  readonly startStep: number;
  readonly ranks: readonly string[];
}

/**
 * Steps that were done and had to be done again: summed over all re-formed generations, how far a generation began
 * behind the most advanced step that a survivor of the one before had committed. What only a victim had does not count:
 * it went with it.
 */
export function lostSteps(
  generations: readonly Generation[],
  evidence: readonly StepEvidence[],
  faults: readonly { readonly peerId: string; readonly atMs: number }[],
): number {
  return generations.slice(1).reduce((lost, next, i) => {
    const before = generations[i]!;
    if (next.generation !== before.generation + 1) return lost; // those between are not kept
    const survivors = before.ranks.filter(
      (peerId) =>
        next.ranks.includes(peerId) &&
        !faults.some(
          (fault) =>
            fault.peerId === peerId && fault.atMs >= before.startedAtMs && fault.atMs <= next.startedAtMs,
        ),
    );
    const committed = evidence
      .filter(({ generation, peerId }) => generation === before.generation && survivors.includes(peerId))
      .map(({ step }) => step);
    return lost + Math.max(0, Math.max(0, ...committed) - next.startStep);
  }, 0);
}
