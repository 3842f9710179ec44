import type { JobDraft } from "./job-draft.ts";
import { barredFrom, noteFaulty } from "./job-failures.ts";
import type { Member } from "./job-record.ts";

/** At one start step. */
const faultsMax = 3;

/**
 * Ranks that end generations by themselves, through no peer: another ring would meet the same fault at the same step, and be
 * formed again for ever. A rank that has done so `faultsMax` times at one start step is left out, as one whose trainer
 * failed; where a second one has come to that by the same fault, or nobody can go on without it, the job has failed.
 */
export function noteFault(
  draft: JobDraft,
  member: Member,
  { fault, detail }: { readonly fault: string; readonly detail: string },
): void {
  const { job } = draft;
  const { peerId } = member;
  const { step } = job.plan!.start;
  const before = job.faults?.[peerId];
  const count = before?.step === step ? before.count + 1 : 1;
  job.faults = { ...job.faults, [peerId]: { step, code: fault, count } };
  if (count < faultsMax) return;
  const name = draft.name(peerId);
  const isShared = Object.entries(job.faults).some(
    ([other, known]) =>
      other !== peerId && known.code === fault && known.step === step && known.count >= faultsMax,
  );
  noteFaulty(draft, peerId);
  if (isShared || !canSpare(draft, member)) {
    const message = detail.replace(`${fault}: `, "");
    return draft.fail(
      { code: fault, message },
      `${name}: ${detail}; ${count} times, going on from step ${step}`,
    );
  }
  const reason = `its trainer failed ${count} times, going on from step ${step} (${fault})`;
  draft.effects.push({ kind: "stop", peerIds: [peerId], reason });
  draft.drop(member, `trainer of ${name} failed (${fault})`);
}

/** Whether the others have the state, and are enough with those whom the job could get. */
function canSpare(draft: JobDraft, { peerId }: Member): boolean {
  const { job, world } = draft;
  const others = Object.keys(job.members).filter((other) => other !== peerId);
  const barred = new Set(barredFrom(job));
  const idle = (world.agents?.() ?? []).filter((agent) => agent.idle && !barred.has(agent.peerId));
  return others.some((other) => draft.planned(other)) && others.length + idle.length >= job.spec.workers.min;
}
