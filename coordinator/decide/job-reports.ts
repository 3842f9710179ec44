import type { JobReport } from "../../protocol/messages/job-report.ts";
import { compareCheckpoint, compareResult } from "./divergence.ts";
import type { JobDraft } from "./job-draft.ts";
import { noteFailure, noteTooSmall } from "./job-failures.ts";
import type { Member } from "./job-record.ts";
import { noteFault } from "./own-faults.ts";
import { choseStages, noteMissing } from "./stages.ts";

const evaluationsKept = 500;

/** An agent's word that no trainer of the job runs on it, after it was told to stop. */
export const isStopped = (report: JobReport): boolean =>
  report.kind === "failed" && report.code === "CANCELLED";

/** What a member has said. */
export function applyReport(draft: JobDraft, member: Member, report: JobReport): void {
  const { job } = draft;
  const current = "generation" in report && report.generation === job.plan?.generation;
  switch (report.kind) {
    case "ready":
      return applyReady(draft, member, report);
    case "ended":
      if (!current || member.phase !== "running") return;
      draft.setPhase(member, "ended");
      member.point = report.point;
      if (report.code === "HOP_TIMEOUT" && report.suspect) member.stalled = report.suspect;
      if (report.missing) noteMissing(job, report.missing);
      if (report.stepMs !== null) job.stepMs = Math.max(job.stepMs ?? 0, report.stepMs);
      draft.interrupt();
      if (report.fault && !job.result) noteFault(draft, member, { ...report, fault: report.fault });
      return;
    case "resumed": {
      const generation = job.generations.at(-1);
      if (current) job.missing = null;
      if (!current || !generation || job.recoveringSinceMs === null) return;
      generation.recoveryMs = draft.world.nowMs - job.recoveringSinceMs;
      job.recoveringSinceMs = null;
      return;
    }
    case "checkpoint":
      return current ? compareCheckpoint(draft, member, report) : undefined;
    case "evaluated": {
      // Every rank says it; with the last step of a ring taken back, it is said again.
      if (!current || job.evaluations.some(({ step }) => step === report.step)) return;
      job.evaluations = [...job.evaluations, { step: report.step, ...report.evaluation }].slice(
        -evaluationsKept,
      );
      return;
    }
    case "finished": {
      if (!current) return;
      draft.setPhase(member, "finished");
      member.point = report.point;
      const { point, weights, weightsBytes, evaluation, stoppedEarly = false, isBest = false } = report;
      const { attestation } = report;
      const what = {
        ...{ point, weights, weightsBytes, evaluation, stoppedEarly, isBest },
        ...(attestation && { attestation }),
      };
      return compareResult(draft, { ...what, atMs: draft.world.nowMs });
    }
    case "failed":
      // A late stop may have hit the trainer that was prepared since: asked again, it speaks up or is started.
      if (isStopped(report)) return void draft.effects.push({ kind: "prepare", peerId: member.peerId });
      if (report.code === "MODEL_TOO_LARGE" && choseStages(job)) {
        noteTooSmall(draft, member.peerId); // the others can hold their stages
        return draft.drop(member, `${draft.name(member.peerId)} has too little memory for a stage`);
      }
      if (report.fatal)
        return draft.fail(
          report,
          `${draft.name(report.suspect ?? member.peerId)}: ${report.code}: ${report.message}`,
        );
      noteFailure(draft, member.peerId);
      return draft.drop(member, `trainer of ${draft.name(member.peerId)} failed (${report.code})`);
    case "skipped":
      if (current) job.skipped = { step: report.step, message: report.message };
      return;
    case "started":
      return current ? applyStarted(draft, member, report) : undefined;
    case "held":
      return; // noted, whoever tells it
    case "sized":
      if (job.spec.stages !== "auto" || member.phase !== "preparing") return;
      member.sizes = report.sizes;
      return draft.setPhase(member, "sized");
    case "loading":
      return applyLoading(draft, member, report.share);
    case "progress":
      return; // told to people by the shell; nothing to decide
  }
}

function applyReady(draft: JobDraft, member: Member, report: Extract<JobReport, { kind: "ready" }>): void {
  const { job } = draft;
  if ((report.stage ?? null) !== member.stage) return; // of a trainer that another part of the model has replaced
  if (member.phase === "finished") return; // what it has finished with is what counts, not where its trainer stands
  if (member.phase === "running") {
    const isPlanned = member.host === report.host && member.port === report.port;
    if (isPlanned && job.interruptedAtMs === null) return; // an echo: the plan is on its way
    // Idle again, or another trainer than the planned one, whose death nobody told us of.
    draft.setPhase(member, "ended");
    draft.interrupt();
  }
  job.dataDigest ??= report.dataDigest;
  job.model ??= report.model;
  if (report.dataDigest !== job.dataDigest) {
    const message = `${draft.name(member.peerId)} has other data than the first worker`;
    return draft.fail({ code: "DATA_MISMATCH", message });
  }
  Object.assign(member, {
    host: report.host,
    port: report.port,
    statePort: report.statePort,
    point: report.point,
    pointOf: report.pointOf ?? null,
    engine: report.engine,
  });
  if (!job.engines.includes(report.engine)) job.engines.push(report.engine);
  if (member.phase !== "preparing") return;
  draft.setPhase(member, "ready");
}

/** For people: whose data a step waits for. */
function applyLoading(draft: JobDraft, member: Member, share: number): void {
  if (member.phase !== "running" || !draft.job.plan) return;
  const isThere = share === 1;
  draft.job.reason = isThere
    ? draft.job.plan.reason
    : `${draft.name(member.peerId)} fetches data, ${Math.floor(100 * share)}%`;
}

function applyStarted(
  { job }: JobDraft,
  member: Member,
  { healedBytes, healMs }: Extract<JobReport, { kind: "started" }>,
): void {
  member.healing = false;
  member.pointOf = job.plan!.generation;
  const { healed } = job.generations.at(-1)!;
  if (healedBytes === 0 || healed.some(({ peerId }) => peerId === member.peerId)) return;
  healed.push({ peerId: member.peerId, bytes: healedBytes, ms: healMs });
}
