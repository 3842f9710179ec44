/**
 * A peer that comes and goes costs the others a new generation each time. It keeps its rights, and is asked last: each loss of
 * its connection is a penalty that halves in a minute, and from the third one within that time on it counts as flapping
 * until it has been steady for a few minutes. Nobody is banned, and a cluster that has no one else still uses it.
 *
 * Source: the damping of routes, RFC 2439, section 4: additive penalty, exponential decay, two thresholds.
 */
export interface Steadiness {
  readonly penalty: number;
  readonly atMs: number;
  readonly isFlapping: boolean;
}

const halfLifeMs = 60_000;
/** Between 2 and 3: two restarts in a row are an upgrade. */
const flapsAt = 2.2;
const steadyAt = 0.3;

export const steady = (nowMs: number): Steadiness => ({ penalty: 0, atMs: nowMs, isFlapping: false });

/** As it is now, when nothing has happened since. */
export function settled({ penalty, atMs, isFlapping }: Steadiness, nowMs: number): Steadiness {
  const now = penalty * 2 ** (-Math.max(0, nowMs - atMs) / halfLifeMs);
  return { penalty: now, atMs: nowMs, isFlapping: isFlapping ? now > steadyAt : now > flapsAt };
}

/** After the connection was lost once more. */
export function lostAgain(before: Steadiness, nowMs: number): Steadiness {
  const { penalty, isFlapping } = settled(before, nowMs);
  return { penalty: penalty + 1, atMs: nowMs, isFlapping: isFlapping || penalty + 1 > flapsAt };
}
