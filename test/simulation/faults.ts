import type { Randomness } from "./world/randomness.ts";
import type { CrashPoint } from "./world/storage.ts";
import type { Plane, Weather } from "./world/wire.ts";

/** What the world does to a cluster. Machines by their index; -1 is the coordinator's. */
export type Fault =
  | {
      readonly kind: "kill-agent";
      readonly machine: number;
      readonly withTrainers: boolean;
      readonly forMs: number;
    }
  | { readonly kind: "kill-trainer"; readonly machine: number }
  | { readonly kind: "stall-trainer"; readonly machine: number; readonly forMs: number }
  | { readonly kind: "leave"; readonly machine: number; readonly forMs: number }
  | { readonly kind: "join"; readonly machine: number }
  /** It never comes back. */
  | { readonly kind: "lose-machine"; readonly machine: number }
  | { readonly kind: "disk-error"; readonly writes: number }
  | { readonly kind: "kill-coordinator"; readonly point: CrashPoint | "at once"; readonly forMs: number }
  | { readonly kind: "close-coordinator"; readonly forMs: number }
  | {
      readonly kind: "isolate";
      readonly machine: number;
      readonly planes: readonly Plane[];
      readonly forMs: number;
    }
  | { readonly kind: "weather"; readonly weather: Weather; readonly forMs: number };

export interface ScheduledFault {
  /** Virtual milliseconds after the job was submitted. */
  readonly atMs: number;
  readonly fault: Fault;
}

/** More deaths of trainers on one agent and the coordinator rightly gives the agent up. */
const trainerKillsMax = 2;
const faultsMax = 7;
const coordinatorDeaths: readonly (CrashPoint | "at once")[] = [
  ...(["at once", "before the write", "before the acknowledgement", "after the end of a job"] as const),
];

/** A schedule drawn from the seed: none to seven faults, often close to each other. */
export function drawFaults(random: Randomness, machineCount: number): ScheduledFault[] {
  const kills = new Map<number, number>();
  const schedule: ScheduledFault[] = [];
  let atMs = random.skewed(0, 4_000);
  if (machineCount > 2 && random.chance(0.1)) {
    const machine = random.integer(0, machineCount - 1); // at least two are left, the most that a job needs
    schedule.push({ atMs: random.skewed(0, 6_000), fault: { kind: "lose-machine", machine } });
  }
  for (let left = random.integer(0, faultsMax); left > 0; left--) {
    const fault = drawFault(random, machineCount);
    const killed = fault.kind === "kill-trainer" ? (kills.get(fault.machine) ?? 0) + 1 : 0;
    if (fault.kind === "kill-trainer") kills.set(fault.machine, killed);
    if (killed <= trainerKillsMax) schedule.push({ atMs, fault });
    atMs += random.skewed(0, 3_000);
  }
  return schedule;
}

/**
 * All who train die while the coordinator is away, so that it hears nothing of what they have written; they come back before it
 * or after it, one in three times without one of them.
 */
export function drawUnseenDeaths(random: Randomness, machineCount: number): ScheduledFault[] {
  const atMs = random.real(1_500, 4_000);
  const forMs = random.real(2_000, 12_000);
  const diedAtMs = atMs + random.real(300, forMs);
  const lost = machineCount > 2 && random.chance(1 / 3) ? random.integer(0, machineCount - 1) : undefined;
  const deaths = Array.from({ length: machineCount }, (_, machine): ScheduledFault => {
    const fault: Fault =
      machine === lost
        ? { kind: "lose-machine", machine }
        : { kind: "kill-agent", machine, withTrainers: true, forMs: random.skewed(50, 20_000) };
    return { atMs: diedAtMs + random.skewed(0, 300), fault };
  });
  return [{ atMs, fault: { kind: "kill-coordinator", point: "at once", forMs } }, ...deaths];
}

/** Of a model in stages: a quarter of the stories is about what nobody hears of. */
export const drawStagedFaults = (random: Randomness, machineCount: number): ScheduledFault[] =>
  (random.chance(0.25) ? drawUnseenDeaths : drawFaults)(random, machineCount);

/** Deaths and ends of the coordinator and nothing else, some of them before the agents of the one before have come back. */
export function drawRestarts(random: Randomness): ScheduledFault[] {
  let atMs = random.skewed(0, 4_000);
  return Array.from({ length: random.integer(1, faultsMax) }, () => {
    const forMs = random.skewed(20, random.pick([500, 6_000, 20_000]));
    const point = random.pick(coordinatorDeaths);
    const fault: Fault = random.chance(0.3)
      ? { kind: "close-coordinator", forMs }
      : { kind: "kill-coordinator", point, forMs };
    const scheduled = { atMs, fault };
    atMs += forMs + random.skewed(0, 4_000);
    return scheduled;
  });
}

/** The coordinator alone is cut off from all others, for moments and for minutes, and nothing else happens. */
export function drawCuts(random: Randomness): ScheduledFault[] {
  let atMs = random.skewed(0, 4_000);
  return Array.from({ length: random.integer(1, 4) }, () => {
    const forMs = random.skewed(500, random.pick([6_000, 25_000, 90_000]));
    const scheduled = { atMs, fault: { kind: "isolate", machine: -1, planes: ["control"], forMs } } as const;
    atMs += forMs + random.skewed(0, 12_000);
    return scheduled;
  });
}

function drawFault(random: Randomness, machineCount: number): Fault {
  const machine = random.integer(0, machineCount - 1);
  const shortMs = random.skewed(20, 6_000);
  const longMs = random.skewed(200, 25_000);
  const draws: readonly (() => Fault)[] = [
    () => ({ kind: "kill-agent", machine, withTrainers: random.chance(0.5), forMs: shortMs }),
    () => ({ kind: "kill-agent", machine, withTrainers: random.chance(0.5), forMs: longMs }),
    () => ({ kind: "kill-trainer", machine }),
    () => ({ kind: "stall-trainer", machine, forMs: longMs }),
    () => ({ kind: "leave", machine, forMs: shortMs }),
    () => ({ kind: "join", machine: machineCount }),
    () => ({ kind: "disk-error", writes: random.integer(1, 4) }),
    () => ({
      kind: "kill-coordinator",
      point: random.pick(coordinatorDeaths),
      forMs: shortMs,
    }),
    () => ({ kind: "close-coordinator", forMs: shortMs }),
    () => ({
      kind: "isolate",
      machine: random.chance(0.2) ? -1 : machine,
      planes: random.pick([["control", "data"], ["control", "data"], ["control"], ["data"]]),
      forMs: longMs,
    }),
    () => ({ kind: "weather", weather: drawWeather(random), forMs: shortMs }),
  ];
  return random.pick(draws)();
}

function drawWeather(random: Randomness): Weather {
  return {
    latencyMs: { min: 0.1, max: random.skewed(1, 300) },
    requestLoss: random.skewed(0, 0.6),
    gossipLoss: random.real(0, 0.5),
    duplication: random.real(0, 0.5),
  };
}
