import { z } from "zod";
import { jobSpecSchema } from "../../protocol/job-spec.ts";
import { sweepIdSchema, sweepStateSchema, trialStateSchema } from "../../protocol/messages/sweep.ts";
import { isBetter, parametersSchema, rungsOf, searchSchema, trialsOf } from "../../protocol/search.ts";
import type { SweepSpec } from "../../protocol/sweep-spec.ts";

/** What the coordinator knows of a sweep; persisted whole with each decision. What a trial's job does, that job says. */

const trialRecordSchema = z.object({
  /** From 1. */
  number: z.number().int().positive(),
  parameters: parametersSchema,
  state: trialStateSchema,
  /** The one that it is in, or waits to begin; from 0. */
  rung: z.number().int().nonnegative(),
  /** After each rung; `value` is null where the metric was not measured, or is not finite. */
  results: z.array(
    z.object({ rung: z.number().int(), step: z.number().int(), value: z.number().nullable() }),
  ),
  version: z.string().nullable(),
  reason: z.string(),
});
export type TrialRecord = z.infer<typeof trialRecordSchema>;

export const sweepRecordSchema = z.object({
  id: sweepIdSchema,
  /** The registered configuration that it was submitted with; null in records of earlier releases. */
  config: z.string().nullable().default(null),
  job: jobSpecSchema,
  search: searchSchema,
  state: sweepStateSchema,
  reason: z.string(),
  submittedAtMs: z.number(),
  startedAtMs: z.number().nullable(),
  endedAtMs: z.number().nullable(),
  trials: z.array(trialRecordSchema),
  /** Number of the best trial so far. */
  best: z.number().int().nullable(),
  /** The best trial's weights under the sweep's name; once registered. */
  version: z.string().nullable(),
});
export type SweepRecord = z.infer<typeof sweepRecordSchema>;

export function newSweep(id: string, { job, search }: SweepSpec, nowMs: number): SweepRecord {
  return {
    ...{ id, config: null, job, search },
    ...{ state: "running", reason: "submitted", submittedAtMs: nowMs, startedAtMs: null, endedAtMs: null },
    trials: trialsOf(search)!.map((parameters, i) => ({
      ...{ number: i + 1, parameters, state: "waiting", rung: 0, results: [], version: null },
      reason: "waits for a free agent",
    })),
    ...{ best: null, version: null },
  };
}

export const isSweepOver = ({ state }: SweepRecord): boolean => state !== "running";

export const isTrialOver = ({ state }: TrialRecord): boolean =>
  state === "stopped" || state === "succeeded" || state === "failed" || state === "cancelled";

/** The epochs at which a trial of this rung pauses; null in the last one, which goes on to the end of the job. */
export function boundOf({ search, job, trials }: SweepRecord, rung: number): number | null {
  const rungs = rungsOf(search, job.epochs, trials.length);
  return rung >= rungs.length - 1 ? null : rungs[rung]!.epochs;
}

export const lastValue = ({ results }: TrialRecord): number | null => results.at(-1)?.value ?? null;

/**
 * Best first, those with a value only: who came further, among them whose metric is better, among equals who has the lower
 * number. What was trained for longer is not compared with what was given up early.
 */
export function ranked(search: SweepRecord["search"], trials: readonly TrialRecord[]): TrialRecord[] {
  const rungOf = ({ results }: TrialRecord) => results.at(-1)!.rung;
  return trials
    .filter((trial) => lastValue(trial) !== null)
    .sort((a, b) => {
      const [x, y] = [lastValue(a)!, lastValue(b)!];
      return rungOf(b) - rungOf(a) || (x === y ? a.number - b.number : isBetter(search, x, y) ? -1 : 1);
    });
}
