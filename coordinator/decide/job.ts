import type { SteerAction } from "../../protocol/messages/api.ts";
import type { JobReport } from "../../protocol/messages/job-report.ts";
import { noteHeld } from "./held.ts";
import { JobDraft, type JobEffect, type JobWorld } from "./job-draft.ts";
import { forgive } from "./job-failures.ts";
import { advance } from "./job-generation.ts";
import { arrange, dropLost, giveBack, recruit } from "./job-members.ts";
import { isOver, type JobRecord, type Member } from "./job-record.ts";
import { applyReport, isStopped } from "./job-reports.ts";
import { isAtRest } from "./job-rest.ts";
import { refusalOf, settleHold, steer } from "./job-steering.ts";
import { continueTrial, forgetLostState, holdAtBound } from "./job-trial.ts";
import { settleStageCount } from "./stage-count.ts";

export type { JobEffect, JobWorld, PeerFact } from "./job-draft.ts";

/**
 * The life of a job as a pure function: (record, event, world) -> (record, effects). The shell persists the record, then
 * carries out the effects; effects are idempotent, so repeating them after a crash is safe.
 */
export type JobEvent =
  | { readonly kind: "tick" }
  | { readonly kind: "report"; readonly from: string; readonly report: JobReport }
  | { readonly kind: "steer"; readonly action: SteerAction; readonly reason: string }
  /** The queue gives it these agents. */
  | { readonly kind: "granted"; readonly peerIds: readonly string[] }
  /** The queue takes members back for another job; null: for whoever can begin with them. */
  | { readonly kind: "reduced"; readonly peerIds: readonly string[]; readonly to: string | null }
  | { readonly kind: "prioritised"; readonly priority: number; readonly reason: string }
  /** Its sweep lets a trial that has reached its bound go on to another one; null: to its end. */
  | { readonly kind: "continue"; readonly epochs: number | null }
  /** Its sweep has no use for it any more. */
  | { readonly kind: "stop"; readonly reason: string };

export function decideJob(
  record: JobRecord,
  event: JobEvent,
  world: JobWorld,
): { record: JobRecord; effects: JobEffect[] } {
  if (event.kind === "tick" && isAtRest(record, world)) return { record, effects: [] };
  if (event.kind === "steer" && refusalOf(record, event.action)) return { record, effects: [] };
  if (event.kind === "stop" && isOver(record)) return { record, effects: [] };
  if (event.kind === "continue" && (record.state !== "paused" || !record.reached))
    return { record, effects: [] };
  const rests = isOver(record) || record.state === "paused";
  if (rests && event.kind !== "steer" && event.kind !== "continue" && event.kind !== "stop")
    return restingDecision(record, event);
  const draft = new JobDraft(structuredClone(record), world);
  apply(draft, event);
  dropLost(draft);
  forgive(draft);
  forgetLostState(draft);
  if (draft.job.hold && !draft.job.result) settleHold(draft);
  else if (draft.job.state !== "paused") {
    if (settleStageCount(draft)) advance(draft);
    if (event.kind === "granted") recruit(draft, event.peerIds);
    arrange(draft);
  }
  return { record: draft.job, effects: draft.effects };
}

/** The commands that an earlier life of this coordinator has given, or was about to give. */
export function effectsInForce(job: JobRecord): JobEffect[] {
  if (isOver(job)) return [];
  const inPhase = (phase: Member["phase"]) =>
    Object.values(job.members)
      .filter((member) => member.phase === phase)
      .map(({ peerId }) => peerId);
  const effects: JobEffect[] = inPhase("preparing").map((peerId) => ({ kind: "prepare", peerId }));
  if (job.hold === "told" && job.plan) {
    const peerIds = [...inPhase("running"), ...inPhase("ended")];
    const { generation } = job.plan;
    return [...effects, { kind: "quiesce", peerIds, generation, checkpoint: true }];
  }
  const peerIds = inPhase("running");
  if (!job.plan || peerIds.length === 0) return effects;
  effects.push({ kind: "start", plan: job.plan, peerIds });
  if (job.pauseRequested) effects.push({ kind: "quiesce", peerIds, generation: job.plan.generation });
  return effects;
}

/** A trainer that speaks up after the end of its job (its agent was away) is sent home. */
function restingDecision(record: JobRecord, event: JobEvent): { record: JobRecord; effects: JobEffect[] } {
  if (event.kind === "prioritised" && !isOver(record))
    return { record: { ...record, priority: event.priority }, effects: [] };
  if (event.kind !== "report" || event.report.kind === "failed") return { record, effects: [] };
  if (event.report.kind === "held") {
    const told = { ...record };
    const { held } = event.report;
    if (!isOver(record)) noteHeld(told, { from: event.from, held, comes: true });
    return { record: told, effects: [] };
  }
  return { record, effects: [{ kind: "stop", peerIds: [event.from], reason: record.reason }] };
}

function apply(draft: JobDraft, event: JobEvent): void {
  if (event.kind === "steer") steer(draft, event.action, event.reason);
  if (event.kind === "continue") continueTrial(draft, event.epochs);
  if (event.kind === "stop") draft.end("cancelled", event.reason);
  if (event.kind === "reduced") giveBack(draft, event.peerIds, event.to);
  if (event.kind === "prioritised") draft.job.priority = event.priority;
  if (event.kind !== "report") return;
  if ("held" in event.report && event.report.held) {
    const { kind, held } = event.report;
    noteHeld(draft.job, { from: event.from, held, comes: kind === "held" });
    if (kind === "held") return;
  }
  if (isStopped(event.report)) draft.job.silent = draft.job.silent.filter((peerId) => peerId !== event.from);
  const member = draft.job.members[event.from];
  if (member) applyReport(draft, member, event.report);
  if (member && event.report.kind === "ended") holdAtBound(draft, event.report);
  if (!member && event.report.kind !== "failed")
    draft.effects.push({ kind: "stop", peerIds: [event.from], reason: "not a member" });
}
