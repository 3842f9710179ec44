import { type JobSpec, jobSpecSchema } from "../../../protocol/job-spec.ts";
import { limits } from "../../../protocol/limits.ts";
import { drawFaults, type ScheduledFault } from "../faults.ts";
import { drawSpec } from "../scenario.ts";
import type { Randomness } from "../world/randomness.ts";

/** What operators want of a cluster that they share: jobs of two projects, their quotas, and what they change their minds about. */
export interface Day {
  readonly machineCount: number;
  readonly jobs: readonly SubmittedJob[];
  /** In force from the beginning, and again when all is calm: with them every job that fits can be done. */
  readonly quotas: readonly Quota[];
  readonly acts: readonly { readonly atMs: number; readonly act: Act }[];
  readonly faults: readonly ScheduledFault[];
}

interface SubmittedJob {
  readonly atMs: number;
  readonly spec: JobSpec;
  /** There are never as many agents as it wants at once. */
  readonly fits: boolean;
}

interface Quota {
  readonly project: string;
  readonly agents: number | null;
  readonly jobs: number | null;
}

export type Act =
  | { readonly kind: "prioritise"; readonly job: string; readonly priority: number }
  | { readonly kind: "quota"; readonly quota: Quota };

const projects = ["vision", "text"] as const;
/** Faults come for so long, in two waves. */
const secondWaveMs = 6_000;
/** So long a coordinator waits after its start for agents that it does not know. */
const gatheringMs = 2 * limits.heartbeatTimeoutMs;
const gangMax = 5; // of six, one of which may be lost for ever

export function drawDay(random: Randomness, draw: typeof drawFaults = drawFaults): Day {
  const machineCount = random.integer(6, 8);
  const jobCount = random.integer(3, 4);
  const fitting = Array.from({ length: jobCount }, (_, i) => drawJob(random, machineCount, i));
  const misfits = random.chance(0.25) ? [misfitOf(random, machineCount)] : [];
  const quotas = projects.flatMap((project) =>
    random.chance(0.6) ? [drawQuota(random, project, machineCount)] : [],
  );
  return {
    ...{ machineCount, quotas, jobs: [...misfits, ...fitting] },
    acts: Array.from({ length: random.integer(0, 4) }, () => ({
      atMs: random.real(0, 12_000),
      act: drawAct(random, fitting, quotas),
    })),
    faults: drawWaves(random.fork(), machineCount, draw),
  };
}

/** Now and then the first one takes all that is there, and later ones are to get it back. */
function drawJob(random: Randomness, machineCount: number, index: number): SubmittedJob {
  const isGreedy = index === 0 && random.chance(0.6);
  const min = random.integer(1, isGreedy ? 2 : gangMax);
  const max = isGreedy ? machineCount : Math.max(min, random.pick([min, min + 1, machineCount]));
  const spec = jobSpecSchema.parse({
    ...drawSpec(random, machineCount),
    ...{ name: `job-of-${index}`, project: random.pick(projects) },
    priority: isGreedy ? 3 : random.integer(4, 6),
    workers: { min, max, spares: random.chance(0.2) ? 1 : 0 },
  });
  return { atMs: isGreedy ? 0 : random.skewed(0, 6_000), spec, fits: true };
}

/** It goes before all others, and must not hold them up. */
function misfitOf(random: Randomness, machineCount: number): SubmittedJob {
  const most = machineCount + 2; // one more machine may join
  const workers = { min: most, max: most, spares: 0 };
  const spec = jobSpecSchema.parse({
    ...drawSpec(random, machineCount),
    ...{ name: "misfit", priority: 9, workers },
  });
  // Earlier, a coordinator that has just started would hold everyone up for it, as its agents may be on their way.
  return { atMs: random.real(gatheringMs, 1.4 * gatheringMs), spec, fits: false };
}

function drawQuota(random: Randomness, project: string, machineCount: number): Quota {
  const agents = random.integer(gangMax, machineCount);
  const jobs = random.integer(1, 2);
  return {
    project,
    ...random.pick([
      { agents, jobs },
      { agents, jobs: null },
      { agents: null, jobs },
    ]),
  };
}

/** A quota may be too small for any job for a while. */
function drawAct(random: Randomness, jobs: readonly SubmittedJob[], quotas: readonly Quota[]): Act {
  if (quotas.length > 0 && random.chance(0.5)) {
    const { project } = random.pick(quotas);
    return { kind: "quota", quota: { project, agents: random.integer(0, 4), jobs: random.integer(0, 2) } };
  }
  return { kind: "prioritise", job: random.pick(jobs).spec.name, priority: random.integer(0, 9) };
}

/** Of the second one nobody is lost for ever, and no trainer is killed: thrice on one machine, and it is rightly given up. */
function drawWaves(random: Randomness, machineCount: number, draw: typeof drawFaults): ScheduledFault[] {
  const later = draw(random, machineCount)
    .filter(({ fault: { kind } }) => kind !== "lose-machine" && kind !== "kill-trainer")
    .map(({ atMs, fault }) => ({ atMs: atMs + secondWaveMs, fault }));
  return [...draw(random, machineCount), ...later];
}
