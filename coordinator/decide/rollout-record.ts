import { z } from "zod";
import { aliasSchema, nameSchema } from "../../protocol/ids.ts";
import {
  type RolloutEvidence,
  type RolloutView,
  rolloutBoundsSchema,
  rolloutEvidenceSchema,
  rolloutStateSchema,
} from "../../protocol/messages/rollout.ts";
import { type ServedCounts, servedCountsSchema } from "../../protocol/messages/served.ts";
import { type Evidence, tailMs } from "./judgement.ts";

/** What the coordinator knows of the rollout of a name: the one under way, or the last one. Persisted whole with each decision. */
export const rolloutRecordSchema = z.object({
  name: nameSchema,
  number: z.number().int().positive(),
  version: z.number().int().positive(),
  fromVersion: z.number().int().positive(),
  /** Of the candidate, and of the live version that it takes over from. */
  deployment: z.number().int().positive(),
  fromDeployment: z.number().int().positive(),
  state: rolloutStateSchema,
  reason: z.string(),
  steps: z.array(z.number().int().min(1).max(100)).min(1),
  /** Steps that have begun. */
  step: z.number().int().nonnegative(),
  holdMs: z.number(),
  progressDeadlineMs: z.number(),
  bounds: z.object(rolloutBoundsSchema.shape),
  alias: aliasSchema.nullable(),
  /** Since when the hold counts, and what is counted, by the time of a term. */
  steppedAtMs: z.number(),
  /** Since when it lacks replicas; null while it has all of them. */
  lackingSinceMs: z.number().nullable(),
  /** What the live version answered in the last step in which requests went to it. */
  baseline: servedCountsSchema.nullable(),
  /** What the last step, or the end, was decided by. */
  evidence: rolloutEvidenceSchema.nullable(),
  startedAtMs: z.number(),
  endedAtMs: z.number().nullable(),
});
export type RolloutRecord = z.infer<typeof rolloutRecordSchema>;

const overStates: ReadonlySet<RolloutRecord["state"]> = new Set(["promoted", "rolled-back", "aborted"]);
export const isRolloutOver = ({ state }: Pick<RolloutRecord, "state">): boolean => overStates.has(state);

/** Percent of the requests that its candidate gets, as long as it is under way. */
export const weightOf = ({ steps, step }: Pick<RolloutRecord, "steps" | "step">): number =>
  steps[step - 1] ?? 0;

/** A rollout as a new term takes it over: its waits begin anew, and so does what is counted (`takenOver` of jobs). */
export const rolloutTakenOver = (rollout: RolloutRecord, nowMs: number): RolloutRecord => ({
  ...rollout,
  steppedAtMs: nowMs,
  lackingSinceMs: rollout.lackingSinceMs === null ? null : nowMs,
});

/**
 * What it is judged by. Where everything goes to the candidate, the live version is known from the step before.
 * @param counted in the present step
 */
export const comparable = (
  rollout: RolloutRecord,
  counted: Record<"candidate" | "live", ServedCounts>,
): Evidence => ({
  candidate: counted.candidate,
  live: weightOf(rollout) === 100 ? rollout.baseline : counted.live,
});

/** For people, and for the log. */
export function evidenceView({ candidate, live }: Evidence): RolloutEvidence {
  const side = (counts: Evidence["candidate"]) => ({
    ...{ requests: counts.requests, errors: counts.errors },
    p95Ms: tailMs(counts),
  });
  return { candidate: side(candidate), live: live && side(live) };
}

/** @param seen what it waits for, and is judged by, at this moment; of one that is under way */
export function rolloutView(
  record: RolloutRecord,
  seen?: { readonly reason: string; readonly evidence: Evidence },
): RolloutView {
  const { name, number, version, fromVersion, deployment, state, steps, step, bounds, alias } = record;
  const { startedAtMs, endedAtMs } = record;
  return {
    ...{ name, number, version, fromVersion, deployment, state, steps, step, bounds, alias },
    reason: seen?.reason ?? record.reason,
    weight: isRolloutOver(record) ? 0 : weightOf(record),
    holdSeconds: record.holdMs / 1_000,
    progressDeadlineSeconds: record.progressDeadlineMs / 1_000,
    evidence: seen ? evidenceView(seen.evidence) : record.evidence,
    ...{ startedAtMs, endedAtMs },
  };
}
