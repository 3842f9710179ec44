import { RingfoldError } from "../../protocol/errors.ts";
import type { Evaluation } from "../../protocol/messages/job-report.ts";
import { metricOf } from "../../protocol/metric.ts";
import { rungsOf } from "../../protocol/search.ts";
import {
  boundOf,
  isSweepOver,
  isTrialOver,
  lastValue,
  ranked,
  type SweepRecord,
  type TrialRecord,
} from "./sweep-record.ts";

/**
 * A sweep as a pure function: (record, event, world) -> (record, effects, news). The shell persists the record, then
 * carries out the effects. An effect is the difference between what the record wants and what the jobs are, so one that a
 * crash swallowed is there again at the next look, and one that was carried out is not.
 *
 * Trials take agents that no other job wants: jobs look around before sweeps do.
 */
export type SweepEvent =
  | { readonly kind: "tick" }
  | { readonly kind: "cancel"; readonly reason: string }
  /** The jobs of trials could not be submitted: what they would begin with is gone. */
  | { readonly kind: "refused"; readonly trials: readonly RefusedTrial[] };

export interface RefusedTrial {
  readonly number: number;
  readonly reason: string;
}

/** The job of a trial. */
export interface TrialJob {
  readonly jobId: string;
  readonly state: "active" | "paused" | "succeeded" | "failed" | "cancelled";
  /** Where it was told to pause; null: it goes on to its end. */
  readonly bound: number | null;
  /** What the held-out set said at its bound, or at its end. */
  readonly outcome: { readonly step: number; readonly evaluation: Evaluation } | null;
  readonly version: string | null;
  readonly reason: string;
  /** Agents work for it. */
  readonly hasMembers: boolean;
}

export interface SweepWorld {
  /** By number of the trial. */
  readonly jobs: ReadonlyMap<number, TrialJob>;
  /** Agents that could work for a trial, and work for no job. */
  readonly idleAgents: number;
  readonly nowMs: number;
}

export type SweepEffect =
  | { readonly kind: "start"; readonly trial: number; readonly epochs: number | null }
  | {
      readonly kind: "continue";
      readonly trial: number;
      readonly jobId: string;
      readonly epochs: number | null;
    }
  | { readonly kind: "stop"; readonly jobId: string; readonly reason: string }
  /** The best trial's version under the sweep's name. */
  | { readonly kind: "register"; readonly version: string };

export interface SweepDecision {
  readonly record: SweepRecord;
  readonly effects: readonly SweepEffect[];
  /** For people; nothing for a step in between. */
  readonly news: readonly string[];
}

/** @throws RingfoldError CONFLICT when a sweep that is over is cancelled */
export function decideSweep(before: SweepRecord, event: SweepEvent, world: SweepWorld): SweepDecision {
  const sweep = structuredClone(before);
  const news: string[] = [];
  if (event.kind === "cancel") cancel(sweep, event.reason, world.nowMs);
  if (!isSweepOver(sweep)) {
    if (event.kind === "refused") for (const trial of event.trials) refuse(sweep, trial, news);
    observe(sweep, world, news);
    while (endRung(sweep, news)) {
      // A rung whose trials have all ended early is over as soon as it begins.
    }
    begin(sweep, world, news);
    sweep.best = ranked(sweep.search, sweep.trials)[0]?.number ?? null;
    sweep.reason = summary(sweep);
    if (sweep.trials.every(isTrialOver)) end(sweep, world.nowMs);
  }
  if (sweep.state !== before.state) news.push(`${sweep.state}: ${sweep.reason}`);
  return { record: sweep, effects: effectsOf(sweep, before, world), news };
}

function cancel(sweep: SweepRecord, why: string, nowMs: number): void {
  if (isSweepOver(sweep))
    throw new RingfoldError("CONFLICT", `${sweep.id} is over: ${sweep.state}`, { sweepId: sweep.id });
  const reason = `cancelled by an operator${why === "" ? "" : `: ${why}`}`;
  for (const trial of sweep.trials)
    if (!isTrialOver(trial))
      Object.assign(trial, { state: "cancelled", reason: `${sweep.id} was cancelled` });
  Object.assign(sweep, { state: "cancelled", reason, endedAtMs: nowMs });
}

function refuse(sweep: SweepRecord, { number, reason }: RefusedTrial, news: string[]): void {
  const trial = sweep.trials.find((each) => each.number === number && each.state === "running");
  if (!trial) return;
  Object.assign(trial, { state: "failed", reason });
  news.push(`trial ${number} failed: ${reason}`);
}

/** What the jobs of running trials have come to. */
function observe(sweep: SweepRecord, { jobs }: SweepWorld, news: string[]): void {
  for (const trial of sweep.trials) {
    const job = jobs.get(trial.number);
    if (trial.state !== "running" || !job || job.state === "active") continue;
    if (job.state === "failed" || job.state === "cancelled") {
      Object.assign(trial, { state: job.state, reason: job.reason });
      news.push(`trial ${trial.number} ${job.state}: ${job.reason}`);
      continue;
    }
    // Paused by an operator, or told of an earlier bound and not yet of this one.
    if (!job.outcome || (job.state === "paused" && job.bound !== boundOf(sweep, trial.rung))) continue;
    const value = measuredBy(sweep, job.outcome.evaluation);
    trial.results.push({ rung: trial.rung, step: job.outcome.step, value });
    trial.state = job.state;
    trial.version = job.version;
    const { metric } = sweep.search;
    trial.reason = `${metric} ${told(value)} after step ${job.outcome.step}`;
    news.push(`trial ${trial.number}: ${trial.reason}`);
  }
}

function measuredBy({ search }: SweepRecord, evaluation: Evaluation): number | null {
  const value = metricOf(evaluation, search.metric);
  return value !== undefined && value !== null && Number.isFinite(value) ? value : null;
}

/** Once all trials of a rung have what it gives, the best of them go on. Whether that was so. */
function endRung(sweep: SweepRecord, news: string[]): boolean {
  const { search, job, trials } = sweep;
  const rungs = rungsOf(search, job.epochs, trials.length);
  const rung = Math.max(...trials.map((trial) => trial.rung));
  const here = trials.filter((trial) => trial.rung === rung);
  if (rung === rungs.length - 1 || here.some(({ state }) => state === "waiting" || state === "running"))
    return false;
  const kept = ranked(search, here).slice(0, rungs[rung + 1]!.trials);
  for (const trial of here) {
    if (trial.state === "paused" && !kept.includes(trial))
      Object.assign(trial, { state: "stopped", reason: `${trial.reason}: others are better` });
  }
  for (const trial of kept) advance(trial, rung + 1);
  if (kept.length === 0) return false;
  const names = kept.map(({ number }) => number).join(", ");
  news.push(`rung ${rung + 1} of ${rungs.length} is over: trials ${names} of ${here.length} go on`);
  return true;
}

function advance(trial: TrialRecord, rung: number): void {
  trial.rung = rung;
  // One that has stopped early has nothing more to come: what it reached stands beside what the others reach.
  if (trial.state === "succeeded") trial.results.push({ ...trial.results.at(-1)!, rung });
  else Object.assign(trial, { state: "waiting", reason: "goes on when an agent is free" });
}

/** As many of those that wait as there are agents for. */
function begin(sweep: SweepRecord, world: SweepWorld, news: string[]): void {
  const { min, max } = sweep.job.workers;
  const running = sweep.trials.filter(({ state }) => state === "running");
  const unserved = running.filter(({ number }) => {
    const job = world.jobs.get(number);
    return !job || (job.state === "active" && !job.hasMembers) || (job.state === "paused" && job.outcome);
  });
  let free = world.idleAgents - unserved.length * min;
  for (const trial of sweep.trials) {
    if (trial.state !== "waiting") continue;
    // One that takes what there is, where there never is enough for all that it could take.
    const isFirst = running.length === 0 && !sweep.trials.some(({ state }) => state === "running");
    if (free < max && !(isFirst && free >= min)) return;
    free -= max;
    trial.state = "running";
    sweep.startedAtMs ??= world.nowMs;
    const bound = boundOf(sweep, trial.rung) ?? sweep.job.epochs;
    trial.reason = `trains to epoch ${bound}`;
    news.push(`trial ${trial.number} ${trial.rung === 0 ? "begins" : "goes on"}: ${parametersText(trial)}`);
  }
}

function end(sweep: SweepRecord, nowMs: number): void {
  const state = sweep.best === null ? "failed" : "succeeded";
  Object.assign(sweep, { state, endedAtMs: nowMs });
  if (state === "succeeded") return;
  const cause = sweep.trials.find((trial) => trial.state === "failed")?.reason;
  sweep.reason = `no trial has measured ${sweep.search.metric}${cause === undefined ? "" : `; the first failed: ${cause}`}`;
}

function effectsOf(sweep: SweepRecord, before: SweepRecord, { jobs }: SweepWorld): SweepEffect[] {
  const effects: SweepEffect[] = [];
  for (const trial of sweep.trials) {
    const job = jobs.get(trial.number);
    const epochs = boundOf(sweep, trial.rung);
    if (trial.state === "running" && !job) effects.push({ kind: "start", trial: trial.number, epochs });
    if (!job || job.state === "failed" || job.state === "cancelled" || job.state === "succeeded") continue;
    if (trial.state === "running" && job.bound !== epochs)
      effects.push({ kind: "continue", trial: trial.number, jobId: job.jobId, epochs });
    if (isTrialOver(trial))
      effects.push({ kind: "stop", jobId: job.jobId, reason: `${sweep.id}: ${trial.reason}` });
  }
  const best = sweep.trials.find(({ number }) => number === sweep.best);
  if (sweep.state === "succeeded" && before.state === "running" && best?.version)
    effects.push({ kind: "register", version: best.version });
  return effects;
}

function summary({ trials, best, search }: SweepRecord): string {
  const over = trials.filter(isTrialOver).length;
  const running = trials.filter(({ state }) => state === "running").length;
  const leader = trials.find(({ number }) => number === best);
  const found = leader ? `; best is trial ${best}: ${search.metric} ${told(lastValue(leader))}` : "";
  return `${over} of ${trials.length} trials are over, ${running} running${found}`;
}

const told = (value: number | null): string =>
  value === null ? "is unknown" : String(Number(value.toPrecision(4)));

const parametersText = ({ parameters }: TrialRecord): string =>
  Object.entries(parameters)
    .map(([key, value]) => `${key} ${typeof value === "string" ? value : JSON.stringify(value)}`)
    .join(", ");
