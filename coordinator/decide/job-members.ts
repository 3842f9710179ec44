import { limits } from "../../protocol/limits.ts";
import type { JobDraft } from "./job-draft.ts";
import { isOver, type JobRecord } from "./job-record.ts";
import { stateToFetch } from "./job-trial.ts";
import { canFetchStages, memberToMove, stageFor } from "./stages.ts";

/**
 * After a ring broke, every survivor's socket has told it so, and it answers at the end of what it computes: a majority
 * that has reported waits some steps for the rest, and no longer.
 */
export const reformGraceMs = ({ stepMs }: JobRecord): number =>
  Math.max(grace.leastMs, grace.steps * (stepMs ?? 0));
/** After one rank has finished: a script does what it likes after its last step, a file of its own for one. */
export const finishGraceMs = (job: JobRecord): number =>
  job.spec.engine === "torch" ? limits.scriptEndTimeoutMs + reformGraceMs(job) : reformGraceMs(job);
const grace = { leastMs: 2_000, steps: 4 } as const;
/** Who has not reported after this long is given up in any case: a fresh trainer would not have taken longer. */
const stalledMs = limits.prepareTimeoutMs;
/** A ring of which nobody has been seen for this long is given up: as long as one rank waits for another. */
const abandonedMs = limits.hopTimeoutMs;
/** A trainer that died this often on one agent is not tried there again. */
export const failuresMax = 3;

/** Members whose agent is gone. A running one is only lost once the ring has felt it, or its agent lives anew. */
export function dropLost(draft: JobDraft): void {
  if (isOver(draft.job)) return;
  if (isAbandoned(draft)) draft.interrupt();
  for (const member of Object.values(draft.job.members)) {
    const peer = draft.world.peers.get(member.peerId);
    if (!peer && draft.world.gathering) continue;
    if (peer && peer.incarnation !== member.incarnation) draft.drop(member, `${peer.name} restarted`);
    else if (peer?.connected) continue;
    else if (member.phase !== "running" || draft.job.interruptedAtMs !== null) {
      if (!draft.planned(member.peerId)) {
        // Nothing is lost with it if it lives after all; and nobody else would end its trainer.
        draft.effects.push({ kind: "stop", peerIds: [member.peerId], reason: "was taken for dead" });
      }
      draft.drop(member, `${draft.name(member.peerId)} died`);
    }
  }
  dropOverdue(draft);
}

/** Whether all who run the current generation have been gone for long: then no survivor will report its end. */
function isAbandoned(draft: JobDraft): boolean {
  const running = Object.values(draft.job.members).filter(({ phase }) => phase === "running");
  return (
    running.length > 0 &&
    running.every(({ peerId, sinceMs }) => {
      const peer = draft.world.peers.get(peerId);
      const silentMs = peer ? (peer.silentMs ?? 0) : draft.world.nowMs - sinceMs;
      return !peer?.connected && silentMs > abandonedMs;
    })
  );
}

function dropOverdue(draft: JobDraft): void {
  const { nowMs } = draft.world;
  for (const member of Object.values(draft.job.members)) {
    const waitedMs = nowMs - member.sinceMs;
    if (member.phase === "preparing" && waitedMs > limits.prepareTimeoutMs) {
      draft.effects.push({ kind: "stop", peerIds: [member.peerId], reason: "did not become ready in time" });
      draft.drop(member, `${draft.name(member.peerId)} did not become ready in time`);
    }
  }
  const running = Object.values(draft.job.members).filter(({ phase }) => phase === "running");
  const interruptedMs = draft.interruptedMs();
  if (interruptedMs <= reformGraceMs(draft.job)) return;
  // A long step is no death: without a quorum of others nothing is gained by giving up what these have.
  if (interruptedMs <= stalledMs && !draft.quorum(running).plan) return;
  for (const member of running) {
    draft.job.silent.push(member.peerId);
    const reason = "stalled when the ring re-formed";
    draft.effects.push({ kind: "stop", peerIds: [member.peerId], reason });
    draft.drop(member, `${draft.name(member.peerId)} stalled`);
  }
}

/** Members that said goodbye and are idle may go. */
export function releaseLeavers(draft: JobDraft): void {
  for (const member of Object.values(draft.job.members)) {
    if (!draft.world.peers.get(member.peerId)?.leaving || member.phase === "running") continue;
    draft.effects.push({ kind: "stop", peerIds: [member.peerId], reason: "it leaves the cluster" });
    delete draft.job.members[member.peerId];
  }
}

/** Asks idle workers to start a trainer: up to `workers.max`, and as many spares as wanted, which wait with theirs ready. */
export function recruit(draft: JobDraft): void {
  const { job } = draft;
  if (isOver(job) || job.result) return;
  const room = job.spec.workers.max + job.spec.workers.spares;
  const holds = ({ peerId }: { readonly peerId: string }) => job.resumeFrom?.peers.includes(peerId) ?? true;
  const canFetch =
    stateToFetch(job) !== undefined || (job.resumeFrom !== null && canFetchStages(job, job.resumeFrom.step));
  const eligible = [...draft.world.peers.values()]
    .filter(
      ({ peerId, eligible, connected, leaving }) => eligible && connected && !leaving && !job.members[peerId],
    )
    .filter(({ peerId }) => (job.failures[peerId] ?? 0) < failuresMax)
    // Who has the state is asked first, who comes and goes last.
    .sort(
      (a, b) =>
        Number(holds(b)) - Number(holds(a)) ||
        Number(a.flapping ?? false) - Number(b.flapping ?? false) ||
        (a.peerId < b.peerId ? -1 : 1),
    );
  for (const { peerId, incarnation } of eligible) {
    const hasHolder = Object.keys(job.members).some((member) => holds({ peerId: member }));
    const reserved = hasHolder || canFetch || holds({ peerId }) ? 0 : 1; // a place for one who has the state
    if (Object.keys(job.members).length >= room - reserved) break;
    const sinceMs = draft.world.nowMs;
    job.members[peerId] = {
      peerId,
      incarnation,
      phase: "preparing",
      sinceMs,
      host: "",
      port: 0,
      statePort: 0,
      point: null,
      healing: false,
      engine: "",
      stage: stageFor(job, peerId),
      sizes: null,
    };
    draft.effects.push({ kind: "prepare", peerId });
  }
  const move = memberToMove(job);
  if (move) {
    Object.assign(move.member, { stage: move.stage, point: null, sinceMs: draft.world.nowMs });
    draft.setPhase(move.member, "preparing");
    draft.effects.push({ kind: "prepare", peerId: move.member.peerId });
  }
  const members = Object.values(job.members);
  const preparing = members.filter(({ phase }) => phase === "preparing").length;
  if (job.plan || preparing === 0 || job.state !== "waiting") return;
  job.state = "preparing";
  job.reason = `${members.length - preparing} of ${members.length} workers are ready`;
}
