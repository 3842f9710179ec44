import type { JobView } from "../protocol/messages/api.ts";
import type { SweepSummary, SweepView, TrialView } from "../protocol/messages/sweep.ts";
import { rungsOf } from "../protocol/search.ts";
import { isTrialOver, lastValue, type SweepRecord, type TrialRecord } from "./decide/sweep-record.ts";

/** Jobs of a sweep's trials, by number. */
type TrialJobs = ReadonlyMap<number, Pick<JobView, "id" | "progress" | "spec" | "reason" | "state">>;

export function summaryOf(sweep: SweepRecord, jobs: TrialJobs): SweepSummary {
  const { id, config, job, search, state, reason, submittedAtMs, startedAtMs, endedAtMs, trials, version } =
    sweep;
  const best = trials.find(({ number }) => number === sweep.best);
  const epochsDone = trials.reduce((sum, trial) => sum + epochsOf(sweep, trial, jobs), 0);
  return {
    ...{ id, name: job.name, config, method: search.method, metric: search.metric },
    ...{ state, reason, submittedAtMs, startedAtMs, endedAtMs },
    trialCount: trials.length,
    runningCount: trials.filter((trial) => trial.state === "running").length,
    overCount: trials.filter(isTrialOver).length,
    epochsDone,
    epochsPlanned: Math.max(epochsDone, epochsPlanned(sweep, jobs)),
    best: best
      ? { number: best.number, value: lastValue(best)!, jobId: jobs.get(best.number)?.id ?? null }
      : null,
    version,
  };
}

export function viewOf(sweep: SweepRecord, jobs: TrialJobs): SweepView {
  return {
    ...summaryOf(sweep, jobs),
    rungs: rungsOf(sweep.search, sweep.job.epochs, sweep.trials.length),
    trials: sweep.trials.map((trial) => trialView(trial, jobs)),
  };
}

function trialView(trial: TrialRecord, jobs: TrialJobs): TrialView {
  const { number, parameters, state, rung, results, version } = trial;
  const job = jobs.get(number);
  // While it runs, its job knows why nothing moves.
  const reason = state === "running" && job ? `${trial.reason}; ${job.state}: ${job.reason}` : trial.reason;
  return {
    ...{ number, parameters, state, rung, jobId: job?.id ?? null },
    step: Math.max(results.at(-1)?.step ?? 0, state === "running" ? (job?.progress?.step ?? 0) : 0),
    totalSteps: job?.progress?.totalSteps ?? null,
    ...{ value: lastValue(trial), version, reason },
  };
}

/** What a trial has been trained for. */
function epochsOf({ job, search, trials }: SweepRecord, trial: TrialRecord, jobs: TrialJobs): number {
  const rungs = rungsOf(search, job.epochs, trials.length);
  const reached = trial.results.length === 0 ? 0 : rungs[trial.results.at(-1)!.rung]!.epochs;
  const { progress, spec } = jobs.get(trial.number) ?? {};
  if (!progress || !spec) return reached;
  return Math.max(reached, (spec.epochs * progress.step) / Math.max(1, progress.totalSteps));
}

/** What all trials will have been trained for: of those that are over, what they were. */
function epochsPlanned(sweep: SweepRecord, jobs: TrialJobs): number {
  const rungs = rungsOf(sweep.search, sweep.job.epochs, sweep.trials.length);
  const over = sweep.trials.filter(isTrialOver).reduce((sum, trial) => sum + epochsOf(sweep, trial, jobs), 0);
  const going = sweep.trials.filter((trial) => !isTrialOver(trial)).length;
  // The first rung of those that are not over, and of each later one the part that comes on top of the rung before.
  return rungs.reduce((sum, { epochs, trials }, i) => {
    const more = epochs - (rungs[i - 1]?.epochs ?? 0);
    return sum + more * Math.min(trials, going);
  }, over);
}
