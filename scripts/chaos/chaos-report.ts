import type { JobView } from "../../protocol/messages/api.ts";
import type { Distribution } from "./distribution.ts";
import type { FaultRecord } from "./fault-injector.ts";
import type { ResourceGrowth } from "./resource-growth.ts";
import type { ThroughputReport } from "./throughput.ts";

/** What a chaos run found; docs/chaos.md defines every figure. */
export interface ChaosReport {
  /** Of the disturbed job: `succeeded`, or `running` when it had no end. */
  readonly state: JobView["state"];
  readonly reason: string;
  readonly kills: number;
  readonly stalls: number;
  /** Faults that were due while the ring still recovered, or that would have left too few ranks. */
  readonly leftOut: number;
  /** Committed in the disturbed run. */
  readonly steps: number;
  /** Held-out accuracy, 0-1; null when the job was ended early (`--kills`). */
  readonly accuracy: number | null;
  readonly baselineAccuracy: number | null;
  readonly hashMismatches: number;
  readonly lostSteps: number;
  /** From SIGKILL to the next committed step, by the killer's clock. */
  readonly recoveryMs: Distribution | null;
  /** From SIGSTOP to the next committed step, by the stopper's clock. */
  readonly stallRecoveryMs: Distribution | null;
  /** The recoveries from SIGKILL as the coordinator counted them. */
  readonly coordinatorRecoveryMs: Distribution | null;
  /** Null when there was no calm stretch to compare with. */
  readonly throughputShare: number | null;
  readonly throughput: ThroughputReport | null;
  readonly leaked: { readonly processes: number; readonly descriptors: number };
  /** What is alive after a full collection, of the process that grew most after its first minute; null when none lived for two. */
  readonly liveGrowthMB: number | null;
  /** Resident memory of its own, likewise. */
  readonly rssGrowthMB: number | null;
  readonly growth: readonly ResourceGrowth[];
  readonly generations: number;
  readonly seconds: number;
  readonly agents: number;
  readonly signal: string;
  readonly seed: number;
  readonly faults: readonly FaultRecord[];
  readonly failures: readonly BrokenInvariant[];
}

export interface BrokenInvariant {
  /** The figure that it is about. */
  readonly invariant:
    | "state"
    | "faults"
    | "hashMismatches"
    | "lostSteps"
    | "accuracy"
    | "throughputShare"
    | "leaked"
    | "liveGrowthMB"
    | "rssGrowthMB";
  readonly message: string;
}

/** Half a point; a run of other ring sizes adds the same numbers in another order. */
const accuracyToleranceShare = 0.005;
const throughputShareMin = 0.8;
/** libp2p keeps one connection or two to a peer, as dials cross; a leak of one descriptor a kill is far above. */
const descriptorGrowthMax = 8;
/** A leak of 1 MB a minute is above it after ten minutes; the curve of the losses, which has its bound, is below. */
const liveGrowthMaxMB = 4;
/** Allocators keep what was freed in pieces, also after a collection. */
const residentGrowthMaxMB = 64;

/** What `report` shows that must not be. */
export function brokenInvariants(report: Omit<ChaosReport, "failures">): BrokenInvariant[] {
  const { state, faults, hashMismatches, accuracy, baselineAccuracy, throughputShare, leaked } = report;
  const { liveGrowthMB, rssGrowthMB } = report;
  const failures: BrokenInvariant[] = [];
  const demand = (invariant: BrokenInvariant["invariant"], holds: boolean, message: string) => {
    if (!holds) failures.push({ invariant, message });
  };
  demand("state", state !== "failed", `the job failed: ${report.reason}`);
  demand("faults", faults.length > 0, "no agent was struck: the job was too short");
  for (const { victim, fault, backAtMs } of faults)
    demand("faults", backAtMs !== null, `${victim} did not come back after its ${fault.kind}`);
  demand("hashMismatches", hashMismatches === 0, `parameters differed between ranks ${hashMismatches} times`);
  demand(
    "lostSteps",
    report.lostSteps === 0,
    `${report.lostSteps} steps that a survivor had committed were done again`,
  );
  demand(
    "accuracy",
    accuracy === null ||
      baselineAccuracy === null ||
      Math.abs(accuracy - baselineAccuracy) <= accuracyToleranceShare,
    `accuracy ${accuracy} is not within ${100 * accuracyToleranceShare} points of the undisturbed ${baselineAccuracy}`,
  );
  demand(
    "throughputShare",
    throughputShare === null || throughputShare >= throughputShareMin,
    `throughput is ${throughputShare?.toFixed(3)} of the undisturbed, less than ${throughputShareMin}`,
  );
  demand("leaked", leaked.processes === 0, `${leaked.processes} processes were left behind`);
  demand(
    "leaked",
    leaked.descriptors <= descriptorGrowthMax,
    `a process holds ${leaked.descriptors} descriptors more than it began with`,
  );
  demand(
    "liveGrowthMB",
    liveGrowthMB === null || liveGrowthMB <= liveGrowthMaxMB,
    `live memory of a process grew by ${liveGrowthMB?.toFixed(1)} MB after its first minute`,
  );
  demand(
    "rssGrowthMB",
    rssGrowthMB === null || rssGrowthMB <= residentGrowthMaxMB,
    `resident memory of a process grew by ${rssGrowthMB?.toFixed(1)} MB after its first minute`,
  );
  return failures;
}
