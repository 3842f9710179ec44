import { z } from "zod";
import { clusterViewSchema, jobViewSchema } from "../protocol/messages/api.ts";
import { changesOf, clusterChangeSchema as clusterChanges } from "../protocol/messages/cluster-change.ts";
import { evaluationSchema, progressSchema } from "../protocol/messages/job-report.ts";

/**
 * What the page reads, in the coordinator's own schemas but for one thing: JSON has no NaN and no Infinity, they arrive
 * as null. A diverged job must show as diverged, not take the whole page down, so measured numbers may be null here.
 */

const measured = z.number().nullable();

const progressViewSchema = progressSchema.omit({ points: true }).extend({
  loss: measured,
  accuracy: measured,
  samplesPerSecond: measured,
  communicationShare: measured,
});

const jobSchema = jobViewSchema.extend({
  progress: progressViewSchema.nullable(),
  evaluation: evaluationSchema.extend({ loss: measured }).nullable(),
});

const versionSchema = clusterViewSchema.shape.versions.element.extend({ accuracy: measured, loss: measured });

export const clusterSchema = clusterViewSchema.extend({
  jobs: z.array(jobSchema),
  versions: z.array(versionSchema),
});

export const clusterChangeSchema = clusterChanges.extend({
  jobs: changesOf(jobSchema).optional(),
  versions: changesOf(versionSchema).optional(),
});

export const curveSchema = z.array(z.object({ step: z.number(), loss: measured, accuracy: measured }));

export type Cluster = z.infer<typeof clusterSchema>;
export type Peer = Cluster["peers"][number];
export type Job = Cluster["jobs"][number];
export type Version = Cluster["versions"][number];
export type Deployment = Cluster["deployments"][number];
export type Rollout = Cluster["rollouts"][number];
export type Sweep = Cluster["sweeps"][number];
export type CurvePoint = z.infer<typeof curveSchema>[number];

const endedStates: ReadonlySet<Job["state"]> = new Set(["succeeded", "failed", "cancelled"]);

export const isEnded = (job: Job): boolean => endedStates.has(job.state);

/** Jobs that still have work to do first, then the newest first. */
export const sortJobs = (jobs: readonly Job[]): Job[] =>
  [...jobs].sort(
    (one, other) => Number(isEnded(one)) - Number(isEnded(other)) || other.submittedAtMs - one.submittedAtMs,
  );

/**
 * Milliseconds until the last step at the present speed; null when that cannot be told: not running, no speed yet.
 */
export function remainingMs(job: Job): number | null {
  const { progress } = job;
  if (job.state !== "running" || progress === null || !progress.samplesPerSecond) return null;
  const remainingSteps = Math.max(0, progress.totalSteps - progress.step);
  return (remainingSteps * job.spec.batchSize * 1_000) / progress.samplesPerSecond;
}
