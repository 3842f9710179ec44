import { setTimeout as delay } from "node:timers/promises";
import type { JobView } from "../../protocol/messages/api.ts";
import { hasEnded } from "../commands/follow/cluster-follower.ts";
import { formatDuration } from "../commands/present/quantity.ts";
import type { LocalCluster } from "../local-cluster/local-cluster.ts";
import type { FaultDice } from "./fault-dice.ts";
import type { FaultInjector } from "./fault-injector.ts";
import type { JobObserver } from "./job-observer.ts";

/** A trainer that starts on a busy core needs seconds; a ring that is not whole after this never will be. */
const wholeTimeoutMs = 120_000;
/** So that a fault strikes any phase of a step, not always the one after the ring's first. */
const jitterMs = 500;

interface Modules {
  readonly cluster: LocalCluster;
  readonly observer: JobObserver;
  readonly injector: FaultInjector;
  readonly dice: FaultDice;
  readonly agentCount: number;
  readonly signal: AbortSignal;
  readonly note: (line: string) => void;
}

/** Whether every agent is a rank and the ring has committed a step. */
const isWhole = (job: JobView, agentCount: number): boolean => {
  const generation = job.generations.at(-1);
  if (job.state !== "running" || generation?.ranks.length !== agentCount) return false;
  return generation.generation === 1 ? (job.progress?.step ?? 0) > 0 : generation.recoveryMs !== null;
};

export const untilWhole = (observer: JobObserver, agentCount: number): Promise<JobView> =>
  observer.until((job) => isWhole(job, agentCount), {
    timeoutMs: wholeTimeoutMs,
    what: `a ring of all ${agentCount} agents`,
  });

/** A part of a disturbed run, ms since 1970. */
export interface Stretch {
  readonly kind: "calm" | "struck";
  readonly fromMs: number;
  readonly toMs: number;
}

/** Faults between two calm stretches. */
const faultsAStretch = 4;

interface Pace {
  readonly everyMs: number;
  /** In which agents are struck; undefined: until the job ends. */
  readonly durationMs: number | undefined;
}

/** How long `strikeInTurns` takes at least. */
export const turnsMs = ({ everyMs, durationMs }: Pace & { readonly durationMs: number }): number =>
  durationMs + everyMs * (1 + Math.ceil(durationMs / (faultsAStretch * everyMs)));

/**
 * A fault every `everyMs`, four in turn, between calm stretches as long as one interval: how fast the undisturbed ring is on
 * a machine that others use too is known only beside the moment in which it is compared. A struck stretch ends when the ring
 * is whole again.
 *
 * @returns the stretches in their order, and how many faults were left out
 * @throws RingfoldError what made an agent not come back, or the ring not recover
 */
export async function strikeInTurns(
  modules: Modules,
  { everyMs, durationMs = Number.POSITIVE_INFINITY }: Pace,
): Promise<{ readonly leftOut: number; readonly stretches: readonly Stretch[] }> {
  const { observer, agentCount, signal } = modules;
  const stretches: Stretch[] = [];
  const stretch = async (kind: Stretch["kind"], run: () => Promise<void>) => {
    const fromMs = Date.now();
    await run();
    stretches.push({ kind, fromMs, toMs: Date.now() });
  };
  const calm = () => stretch("calm", () => pauseUntil(performance.now() + everyMs, observer, signal));
  let leftOut = 0;
  await calm();
  for (let left = Math.ceil(durationMs / everyMs); left > 0; left -= faultsAStretch) {
    if (signal.aborted || hasEnded(observer.job)) break;
    await stretch("struck", async () => {
      leftOut += await strikeAtIntervals(modules, { everyMs, count: Math.min(left, faultsAStretch) });
      if (!hasEnded(observer.job)) await untilWhole(observer, agentCount);
    });
    await calm();
  }
  signal.throwIfAborted();
  return { leftOut, stretches };
}

/**
 * `count` faults, one every `everyMs`, whatever the cluster is doing then. One that would leave fewer ranks than the job
 * needs, or that comes before the ring has recovered from the one before, is left out.
 *
 * @returns how many were left out
 */
async function strikeAtIntervals(
  { cluster, observer, injector, dice, signal }: Modules,
  { everyMs, count }: { readonly everyMs: number; readonly count: number },
): Promise<number> {
  const failed = new AbortController();
  const stopped = AbortSignal.any([signal, failed.signal]);
  const pending = new Set<Promise<void>>();
  const startedAt = performance.now();
  let recovering = false;
  let leftOut = 0;
  for (let i = 0; i < count; i++) {
    await pauseUntil(startedAt + i * everyMs, observer, stopped);
    if (stopped.aborted || hasEnded(observer.job)) break;
    const candidates = expendable(cluster, observer.job);
    if (recovering || candidates.length === 0) {
      leftOut++;
      continue;
    }
    const { victim, fault } = dice.next(candidates);
    const { recovered, restored } = injector.strike(victim, fault);
    recovering = true;
    const done = Promise.all([recovered.finally(() => (recovering = false)), restored])
      .then(() => undefined)
      .catch((cause) => failed.abort(cause))
      .finally(() => pending.delete(done));
    pending.add(done);
  }
  await pauseUntil(startedAt + count * everyMs, observer, stopped);
  await Promise.all(pending);
  stopped.throwIfAborted();
  return leftOut;
}

/**
 * `count` faults as fast as the ring becomes whole again: every one of them strikes a complete ring.
 * @throws RingfoldError what made an agent not come back, or the ring not recover
 */
export async function strikeWheneverWhole(
  { cluster, observer, injector, dice, agentCount, signal, note }: Modules,
  { count }: { readonly count: number },
): Promise<void> {
  const startedAt = performance.now();
  for (let done = 1; done <= count; done++) {
    await untilWhole(observer, agentCount);
    await delay(dice.integer(jitterMs), undefined, { signal });
    const { victim, fault } = dice.next(expendable(cluster, observer.job));
    const { record, recovered, restored } = injector.strike(victim, fault);
    await Promise.all([recovered, restored]);
    const leftMs = ((performance.now() - startedAt) / done) * (count - done);
    note(
      `${fault.kind} ${done} of ${count}: ${victim}, next step after ${Math.round(record.recoveryMs ?? 0)} ms; ${formatDuration(leftMs)} to go`,
    );
  }
}

/** Live agents, in the order of their names, of which the job can lose any one. */
function expendable(cluster: LocalCluster, job: JobView): string[] {
  const ranks = job.generations.at(-1)?.ranks ?? [];
  const live = cluster.liveAgents().map(({ ready }) => ready);
  const liveRanks = live.filter(({ peerId }) => ranks.includes(peerId)).length;
  return live
    .filter(({ peerId }) => liveRanks - (ranks.includes(peerId) ? 1 : 0) >= job.spec.workers.min)
    .map(({ name }) => name)
    .toSorted((a, b) => (a < b ? -1 : 1));
}

/** Returns early when the job ends or the signal aborts. */
async function pauseUntil(at: number, observer: JobObserver, signal: AbortSignal): Promise<void> {
  const sliceMs = 500;
  while (!signal.aborted && !hasEnded(observer.job)) {
    const leftMs = at - performance.now();
    if (leftMs <= 0) return;
    await delay(Math.min(sliceMs, leftMs), undefined, { signal }).catch(() => undefined);
  }
}
