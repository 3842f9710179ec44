import type { Randomness } from "../world/randomness.ts";
import type { Way } from "./candidate.ts";

/** A candidate by its index; or whoever leads at the moment; or, of the way to etcd, all of them. */
export type Struck = number | "leader" | "all";

/** What happens to coordinators. */
export type ElectionFault =
  | { readonly kind: "kill"; readonly who: Struck; readonly forMs: number }
  /** SIGSTOP: timers and answers wait. */
  | { readonly kind: "stall"; readonly who: Struck; readonly forMs: number }
  /** No endpoint of etcd answers. */
  | { readonly kind: "cut"; readonly who: Struck; readonly forMs: number }
  | { readonly kind: "weather"; readonly who: Struck; readonly way: Way; readonly forMs: number };

export interface ScheduledElectionFault {
  /** Virtual milliseconds since the start. */
  readonly atMs: number;
  readonly fault: ElectionFault;
}

const faultsMax = 8;

/** One to eight faults, often close to each other. */
export function drawElectionFaults(
  random: Randomness,
  candidateCount: number,
): readonly ScheduledElectionFault[] {
  const schedule: ScheduledElectionFault[] = [];
  let atMs = random.skewed(0, 5_000);
  for (let left = random.integer(1, faultsMax); left > 0; left--) {
    schedule.push({ atMs, fault: drawFault(random, candidateCount) });
    atMs += random.skewed(0, 9_000);
  }
  return schedule;
}

function drawFault(random: Randomness, candidateCount: number): ElectionFault {
  const who = random.chance(0.7) ? "leader" : random.integer(0, candidateCount - 1);
  const whose = random.chance(0.5) ? "all" : who;
  const forMs = random.skewed(50, 12_000);
  const draws: readonly (() => ElectionFault)[] = [
    () => ({ kind: "kill", who, forMs }),
    () => ({ kind: "stall", who, forMs }),
    () => ({ kind: "cut", who: whose, forMs }),
    () => ({ kind: "weather", who: whose, forMs, way: drawWay(random) }),
  ];
  return random.pick(draws)();
}

const drawWay = (random: Randomness): Way => ({
  latencyMs: { min: 0.2, max: random.skewed(5, 1_500) },
  loss: random.real(0, 0.4),
  answerLoss: random.real(0, 0.4),
  late: random.real(0, 0.3),
});
