import { availableParallelism } from "node:os";
import type { JobView } from "../../protocol/messages/api.ts";
import type { LocalCluster } from "../local-cluster/local-cluster.ts";
import { readLogEvidence } from "./agent-logs.ts";
import type { ChaosReport } from "./chaos-report.ts";
import type { ChaosOptions } from "./chaos-run.ts";
import { distributionOf } from "./distribution.ts";
import type { FaultInjector, FaultRecord } from "./fault-injector.ts";
import type { Stretch } from "./fault-schedule.ts";
import type { JobObserver } from "./job-observer.ts";
import { lostSteps, type StepEvidence } from "./lost-steps.ts";
import { growthOf } from "./resource-growth.ts";
import type { ResourceMonitor } from "./resource-monitor.ts";
import { liveSpans, type ThroughputReport, throughputOf } from "./throughput.ts";

/** A disturbed run that came to its end. */
export interface DisturbedRun {
  readonly observer: JobObserver;
  readonly injector: FaultInjector;
  /** As it ended, or as it was when enough agents had been struck. */
  readonly job: JobView;
  readonly leftOut: number;
  /** Not empty. */
  readonly stretches: readonly Stretch[];
}

/** Of a generation in which an outlier heals (coordinator/decide/divergence.ts). */
const divergedReason = "has other parameters than the majority";

interface Evidence {
  readonly steps: readonly StepEvidence[];
  readonly hashMismatches: number;
}

/** Everything that is known of a job's steps and parameters. */
export async function collectEvidence(
  run: DisturbedRun,
  cluster: LocalCluster,
  names: readonly string[],
): Promise<Evidence> {
  const { job } = run;
  const { steps, divergences } = await collectSteps(run, cluster, names);
  // Two checkpoints of one step that differ are seen by the coordinator, which expels the outlier or ends the job.
  const ended = job.reason.includes("HASH_DIVERGED") ? 1 : 0;
  const expelled = job.generations.filter(({ reason }) => reason.includes(divergedReason)).length;
  return { steps, hashMismatches: divergences + ended + expelled };
}

/**
 * Who says that which step was committed: every survivor's own log as its generation ended, and the progress that rank 0
 * reported before. The coordinator's decision is what they are held against.
 */
export async function collectSteps(
  { observer, job }: Pick<DisturbedRun, "observer" | "job">,
  cluster: {
    agent(name: string): { readonly ready: { readonly peerId: string } };
    logPath(name: string): string;
  },
  names: readonly string[],
): Promise<{ readonly steps: readonly StepEvidence[]; readonly divergences: number }> {
  const steps: StepEvidence[] = job.generations.flatMap(({ generation, ranks }) => {
    const step = observer.reported.get(generation);
    return step === undefined ? [] : [{ generation, step, peerId: ranks[0]! }];
  });
  let divergences = 0;
  for (const name of names) {
    const { peerId } = cluster.agent(name).ready;
    const evidence = await readLogEvidence(cluster.logPath(name), job.id);
    steps.push(...evidence.endedAt.map((ended) => ({ ...ended, peerId })));
    divergences += evidence.divergences;
  }
  return { steps, divergences };
}

/** All figures of a run. @param left processes that were there after everything had been stopped */
export function summarize(parts: {
  readonly options: ChaosOptions;
  readonly run: DisturbedRun;
  readonly evidence: Evidence;
  readonly baselineAccuracy: number | null;
  readonly monitor: ResourceMonitor;
  readonly left: readonly number[];
}): Omit<ChaosReport, "failures"> {
  const { options, run, evidence, baselineAccuracy, monitor, left } = parts;
  const { job, injector, observer, stretches } = run;
  const faults = injector.records;
  const ofKind = (kind: FaultRecord["fault"]["kind"]) => faults.filter(({ fault }) => fault.kind === kind);
  const timesOf = (records: readonly FaultRecord[], time: "recoveryMs" | "coordinatorMs") =>
    distributionOf(records.flatMap((record) => record[time] ?? []));
  const throughput = throughputIn(run, options.agentCount);
  const growth = growthOf(monitor.lives.values());
  const most = (values: readonly (number | null)[]): number | null => {
    const known = values.filter((value) => value !== null);
    return known.length > 0 ? Math.max(0, ...known) : null;
  };
  return {
    state: job.state,
    reason: job.reason,
    kills: ofKind("kill").length,
    stalls: ofKind("stall").length,
    leftOut: run.leftOut,
    steps: observer.sightings.at(-1)?.step ?? 0,
    accuracy: baselineAccuracy === null ? null : (job.evaluation?.accuracy ?? null),
    baselineAccuracy,
    hashMismatches: evidence.hashMismatches,
    lostSteps: lostSteps(job.generations, evidence.steps, faults),
    recoveryMs: timesOf(ofKind("kill"), "recoveryMs"),
    stallRecoveryMs: timesOf(ofKind("stall"), "recoveryMs"),
    coordinatorRecoveryMs: timesOf(ofKind("kill"), "coordinatorMs"),
    throughputShare: throughput?.share ?? null,
    throughput,
    leaked: {
      processes: new Set([...monitor.orphans, ...left]).size,
      descriptors: Math.max(0, ...growth.map(({ descriptors }) => descriptors)),
    },
    liveGrowthMB: most(growth.map(({ liveMB }) => liveMB)),
    rssGrowthMB: most(growth.map(({ residentMB }) => residentMB)),
    growth,
    generations: job.generationCount,
    seconds: (stretches.at(-1)!.toMs - stretches[0]!.fromMs) / 1_000,
    agents: options.agentCount,
    signal: options.signal,
    seed: options.seed,
    faults,
  };
}

/** Null where there is no calm stretch to compare with. */
function throughputIn(
  { observer, job, injector, stretches }: DisturbedRun,
  worldSize: number,
): ThroughputReport | null {
  const sighted = stretches.map(({ kind, fromMs, toMs }) => {
    const seen = observer.sightings.filter(({ atMs }) => atMs >= fromMs && atMs <= toMs);
    return seen.length > 1 ? { kind, from: seen[0]!, to: seen.at(-1)! } : undefined;
  });
  const compared = sighted.flatMap((struck, i) => {
    const calm = [sighted[i - 1], sighted[i + 1]].filter((span) => span?.kind === "calm");
    return struck?.kind === "struck" && calm.length > 0 ? [{ struck, calm: calm.map((span) => span!) }] : [];
  });
  if (compared.length === 0) return null;
  return throughputOf({
    ...{ compared, worldSize, batchSize: job.spec.batchSize, cores: availableParallelism() },
    spans: liveSpans(job.generations, injector.records),
  });
}
