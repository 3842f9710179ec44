import type { SweepSummary, SweepView, TrialView } from "../../../protocol/messages/sweep.ts";
import { formatDuration, formatMetric } from "./quantity.ts";
import { formatFacts, formatTable } from "./table.ts";

/** One line a sweep, newest last. */
export const sweepTable = (sweeps: readonly SweepSummary[]): string =>
  formatTable(
    ["id", "name", "method", "state", "trials", "best", "version", "reason"],
    sweeps.map((sweep) => [
      sweep.id,
      sweep.name,
      sweep.method,
      sweep.state,
      `${sweep.overCount}/${sweep.trialCount}`,
      bestText(sweep),
      sweep.version ?? "-",
      sweep.reason,
    ]),
  );

/** Everything about one sweep. @param nowMs the end of the running time of one that goes on */
export function sweepText(sweep: SweepView, nowMs: number): string {
  const { state, startedAtMs, endedAtMs, rungs, metric, method, trials } = sweep;
  const facts: [string, string][] = [
    ["id", sweep.id],
    ["name", sweep.name],
    ["state", `${state}: ${sweep.reason}`],
    ["search", `${method} by ${metric}, ${trials.length} trials`],
  ];
  if (rungs.length > 1) {
    const told = rungs.map(({ epochs, trials: count }) => `${count} x ${formatMetric(epochs)} epochs`);
    facts.push(["rungs", told.join(", ")]);
  }
  if (startedAtMs !== null) facts.push(["running time", formatDuration((endedAtMs ?? nowMs) - startedAtMs)]);
  const remaining = state === "running" ? remainingMs(sweep, nowMs) : undefined;
  if (remaining !== undefined) facts.push(["ETA", formatDuration(remaining)]);
  facts.push(["best", bestText(sweep)]);
  if (sweep.version !== null) facts.push(["version", sweep.version]);
  return `${formatFacts(facts)}\n\n${trialTable(sweep)}`;
}

export const bestText = ({ best, metric }: SweepSummary): string =>
  best === null ? "-" : `trial ${best.number}: ${metric} ${formatMetric(best.value)}`;

/**
 * From the epochs that all trials have been trained for since the sweep began; undefined while there are none.
 */
export function remainingMs(sweep: SweepSummary, nowMs: number): number | undefined {
  const { epochsDone, epochsPlanned, startedAtMs } = sweep;
  if (startedAtMs === null || epochsDone === 0) return undefined;
  return ((nowMs - startedAtMs) * (epochsPlanned - epochsDone)) / epochsDone;
}

/** The best one is marked with a star. */
function trialTable({ trials, best, metric, rungs }: SweepView): string {
  const keys = [...new Set(trials.flatMap(({ parameters }) => Object.keys(parameters)))];
  const rows = trials.map((trial) => [
    `${trial.number}${trial.number === best?.number ? " *" : ""}`,
    ...keys.map((key) => parameterText(trial.parameters[key])),
    trial.state,
    ...(rungs.length > 1 ? [`${trial.rung + 1}/${rungs.length}`] : []),
    stepText(trial),
    trial.value === null ? "-" : formatMetric(trial.value),
    trial.jobId ?? "-",
    trial.version ?? "-",
    trial.reason,
  ]);
  const rung = rungs.length > 1 ? ["rung"] : [];
  return formatTable(["trial", ...keys, "state", ...rung, "step", metric, "job", "version", "reason"], rows);
}

const stepText = ({ step, totalSteps }: TrialView): string =>
  step === 0 ? "-" : totalSteps === null ? String(step) : `${step}/${totalSteps}`;

const parameterText = (value: unknown): string =>
  value === undefined ? "-" : typeof value === "string" ? value : JSON.stringify(value);
