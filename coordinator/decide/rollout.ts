import assert from "node:assert/strict";
import { RingfoldError } from "../../protocol/errors.ts";
import type { RolloutOrder, RolloutWish } from "../../protocol/messages/rollout.ts";
import type { CandidateAction } from "./candidate.ts";
import { type Evidence, judge } from "./judgement.ts";
import { evidenceView, isRolloutOver, type RolloutRecord, weightOf } from "./rollout-record.ts";

export type RolloutEvent =
  | {
      readonly kind: "requested";
      readonly number: number;
      readonly request: RolloutWish;
      /** With their numbers: of the candidate never used before. */
      readonly candidate: Omit<Extract<CandidateAction, { kind: "place" }>, "kind" | "name">;
      readonly live: { readonly deployment: number; readonly version: number };
    }
  | {
      readonly kind: "ordered";
      readonly order: RolloutOrder;
      /** Of a promotion: to the end and not to the next step. */
      readonly full: boolean;
      readonly detail: string;
    }
  /** Time has passed, replicas came or went, gateways have told what they answered. */
  | { readonly kind: "looked-at" };

/** What is so at this moment. */
export interface RolloutSight {
  /** By the time of the term, for waits; and by the clock, for people. */
  readonly nowMs: number;
  readonly shownMs: number;
  /** Of the deployment of the candidate; null where it is gone. */
  readonly candidate: {
    readonly isWhole: boolean;
    readonly canAnswer: boolean;
    readonly reason: string;
  } | null;
  /** Whether what the rollout takes over from is still live. */
  readonly isLive: boolean;
  /** Of the present step: since it began, but for the live version where everything goes to the candidate. */
  readonly evidence: Evidence;
}

export interface RolloutDecision {
  readonly rollout: RolloutRecord;
  /** What becomes of the candidate's deployment; null: nothing. */
  readonly action: CandidateAction | null;
  readonly reason: string;
}

/**
 * The life of a rollout: (rollout, event, what is so now) -> the rollout, what becomes of its candidate, and why. The same
 * rollout comes back where nothing is decided; the reason says what it waits for then.
 *
 * @param rollout the last one of its name
 * @throws RingfoldError CONFLICT when an order does not fit
 */
export function decideRollout(
  rollout: RolloutRecord | undefined,
  event: RolloutEvent,
  sight: RolloutSight,
): RolloutDecision {
  if (event.kind === "requested") return begin(rollout, event, sight);
  assert(rollout, "orders and looks are about a rollout");
  if (event.kind === "ordered") return follow(rollout, event, sight);
  return isRolloutOver(rollout) ? wait(rollout, rollout.reason) : look(rollout, sight);
}

function begin(
  earlier: RolloutRecord | undefined,
  { number, request, candidate, live }: Extract<RolloutEvent, { kind: "requested" }>,
  { nowMs, shownMs }: RolloutSight,
): RolloutDecision {
  const { name, steps, bounds, alias = null } = request;
  if (earlier && !isRolloutOver(earlier))
    throw conflict(earlier, `${name}@${earlier.version} is being rolled out already`);
  const { deployment, version } = candidate;
  const reason = `rolls out ${name}@${version} beside ${name}@${live.version}, by ${steps.join(", ")}%`;
  const rollout: RolloutRecord = {
    ...{ name, number, version, deployment, steps, bounds, alias, reason },
    ...{ fromVersion: live.version, fromDeployment: live.deployment, state: "placing", step: 0 },
    holdMs: 1_000 * request.holdSeconds,
    progressDeadlineMs: 1_000 * request.progressDeadlineSeconds,
    ...{ steppedAtMs: nowMs, lackingSinceMs: nowMs, baseline: null, evidence: null },
    ...{ startedAtMs: shownMs, endedAtMs: null },
  };
  return { rollout, action: { kind: "place", name, ...candidate }, reason };
}

/** What an operator says. Said again, it changes nothing. */
function follow(
  rollout: RolloutRecord,
  { order, full, detail }: Extract<RolloutEvent, { kind: "ordered" }>,
  sight: RolloutSight,
): RolloutDecision {
  const { state } = rollout;
  const done = { pause: "paused", resume: "progressing", promote: "promoted", abort: "aborted" } as const;
  if (state === done[order] && order !== "resume") return wait(rollout, rollout.reason);
  if (isRolloutOver(rollout)) throw conflict(rollout, `the rollout of ${label(rollout)} is over: ${state}`);
  const why = detail === "" ? "by an operator" : `by an operator: ${detail}`;
  switch (order) {
    case "pause":
      return change(rollout, { state: "paused" }, `paused at ${weightOf(rollout)}% ${why}`);
    case "resume": {
      if (state !== "paused") return wait(rollout, rollout.reason);
      const resumed = rollout.step === 0 ? "placing" : "progressing";
      const reason = `goes on at ${weightOf(rollout)}% ${why}; the hold begins anew`;
      return change(rollout, { state: resumed, steppedAtMs: sight.nowMs }, reason);
    }
    case "promote": {
      const { candidate } = sight;
      if (!(full ? candidate?.canAnswer : candidate?.isWhole))
        throw conflict(
          rollout,
          `${label(rollout)} cannot answer all requests: ${candidate?.reason ?? "it is gone"}`,
        );
      return full ? promote(rollout, why, sight) : advance(rollout, why, sight);
    }
    case "abort":
      return end(rollout, "aborted", `aborted at ${weightOf(rollout)}% ${why}; ${goesOn(rollout)}`, sight);
  }
}

function look(rollout: RolloutRecord, sight: RolloutSight): RolloutDecision {
  const { candidate, evidence, nowMs } = sight;
  const { state, step, holdMs, steppedAtMs, lackingSinceMs } = rollout;
  const weight = weightOf(rollout);
  if (!sight.isLive || !candidate)
    return end(rollout, "aborted", `${rollout.name} is served no longer as it was when this began`, sight);
  const { verdict, reason } = judge(evidence, rollout.bounds);
  // A pause stops promotion, not protection.
  if (step > 0 && verdict === "broken")
    return end(rollout, "rolled-back", `rolled back at ${weight}%: ${reason}; ${goesOn(rollout)}`, sight);
  if (!candidate.isWhole) return lack(rollout, candidate.reason, sight);
  if (lackingSinceMs !== null && step > 0) {
    const back = `all replicas are ready again; ${weight}% is held anew`;
    return change(rollout, { lackingSinceMs: null, steppedAtMs: nowMs }, back);
  }
  if (state === "paused") return wait(rollout, `${rollout.reason}; ${reason}`);
  if (step === 0) return advance(rollout, candidate.reason, sight);
  if (nowMs - steppedAtMs < holdMs)
    return wait(rollout, `holds ${weight}% for ${seconds(holdMs)}; ${reason}`);
  if (verdict === "open") return wait(rollout, `waits at ${weight}%: ${reason}`);
  return advance(rollout, reason, sight);
}

/** It is not promoted while it lacks replicas; if it lacks them for long, it will not get them. */
function lack(rollout: RolloutRecord, lacks: string, sight: RolloutSight): RolloutDecision {
  const { lackingSinceMs, progressDeadlineMs } = rollout;
  const weight = weightOf(rollout);
  if (lackingSinceMs === null)
    return change(rollout, { lackingSinceMs: sight.nowMs }, `holds at ${weight}%: ${lacks}`);
  if (sight.nowMs - lackingSinceMs < progressDeadlineMs)
    return wait(rollout, weight === 0 ? `waits for its replicas: ${lacks}` : `holds at ${weight}%: ${lacks}`);
  const reason = `rolled back at ${weight}%: ${lacks}, for ${seconds(progressDeadlineMs)}; ${goesOn(rollout)}`;
  return end(rollout, "rolled-back", reason, sight);
}

/** To the next step, and after the last one to the end. */
function advance(rollout: RolloutRecord, why: string, sight: RolloutSight): RolloutDecision {
  const { steps, step, deployment, bounds } = rollout;
  if (step === steps.length) return promote(rollout, why, sight);
  const weight = steps[step]!;
  const { live } = sight.evidence;
  return {
    ...change(
      rollout,
      {
        ...{ state: "progressing", step: step + 1, steppedAtMs: sight.nowMs, lackingSinceMs: null },
        // Too few to compare with would be waited for in vain once nothing goes to the live version any more.
        baseline: live && live.requests >= bounds.minRequests ? live : rollout.baseline,
        evidence: step > 0 ? evidenceView(sight.evidence) : null,
      },
      `${weight}% of the requests go to ${label(rollout)}: ${why}`,
    ),
    action: { kind: "weigh", deployment, weight },
  };
}

function promote(rollout: RolloutRecord, why: string, sight: RolloutSight): RolloutDecision {
  const reason = `${label(rollout)} takes over from ${rollout.name}@${rollout.fromVersion}: ${why}`;
  const decision = end(rollout, "promoted", reason, sight);
  return { ...decision, action: { kind: "promote", deployment: rollout.deployment } };
}

function end(
  rollout: RolloutRecord,
  state: "promoted" | "rolled-back" | "aborted",
  reason: string,
  { evidence, shownMs }: RolloutSight,
): RolloutDecision {
  const ended = { state, endedAtMs: shownMs, baseline: null, evidence: evidenceView(evidence) };
  const action = { kind: "withdraw", deployment: rollout.deployment } as const;
  return { ...change(rollout, ended, reason), action };
}

const change = (
  rollout: RolloutRecord,
  changes: Partial<RolloutRecord>,
  reason: string,
): RolloutDecision => ({
  rollout: { ...rollout, ...changes, reason },
  ...{ action: null, reason },
});

const wait = (rollout: RolloutRecord, reason: string): RolloutDecision => ({ rollout, action: null, reason });

const label = ({ name, version }: RolloutRecord): string => `${name}@${version}`;
const goesOn = ({ name, fromVersion }: RolloutRecord): string => `${name}@${fromVersion} answers everything`;
const seconds = (ms: number): string => `${ms / 1_000} s`;

const conflict = (rollout: RolloutRecord, message: string): RingfoldError =>
  new RingfoldError("CONFLICT", message, {
    ...{ name: rollout.name, state: rollout.state },
    remedy: `Look at it with \`ringfold rollout show ${rollout.name}\`.`,
  });
