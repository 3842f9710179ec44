import { limits } from "../../protocol/limits.ts";
import type { JobDraft } from "./job-draft.ts";
import { isOver, type JobRecord, type Member } from "./job-record.ts";
import { memberToMove, stageFor } from "./stages.ts";

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
/**
 * Of who has stalled: a neighbour had waited for eight usual steps before it said so. Who lives after all hears of the end of
 * the ring by its sockets, and answers within one more.
 */
const suspectGraceMs = ({ stepMs }: JobRecord): number => Math.max(300, stepMs ?? 0);
/** Who has not reported after this long is given up in any case: a fresh trainer would not have taken longer. */
const stalledMs = limits.prepareTimeoutMs;
/** A ring of which nobody has been seen for this long is given up: as long as one rank waits for another. */
const abandonedMs = limits.hopTimeoutMs;

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
  const { nowMs } = draft.world;
  const running = Object.values(draft.job.members).filter(({ phase }) => phase === "running");
  return (
    running.length > 0 &&
    running.every(({ peerId, sinceMs }) => {
      const peer = draft.world.peers.get(peerId);
      // Who has not come back to a coordinator that has just started trains on meanwhile; `sinceMs` is of this term.
      const silentMs = peer ? (peer.silentMs ?? 0) : nowMs - sinceMs;
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
  if (interruptedMs <= (haveStalled(draft, running) ? suspectGraceMs : reformGraceMs)(draft.job)) return;
  // A long step is no death: without a quorum of others nothing is gained by giving up what these have.
  if (interruptedMs <= stalledMs && !draft.quorum(running).plan) return;
  for (const member of running) {
    draft.job.silent.push(member.peerId);
    const reason = "stalled when the ring re-formed";
    draft.effects.push({ kind: "stop", peerIds: [member.peerId], reason });
    draft.drop(member, `${draft.name(member.peerId)} stalled`);
  }
}

/**
 * Whether it is known who has stalled: each of these was named by a neighbour; or somebody was named, and only one has not
 * answered. In a ring that stands still all wait, and whose patience ends first names its own neighbour, who waits as well.
 */
function haveStalled(draft: JobDraft, running: readonly Member[]): boolean {
  const named = new Set(draft.inPhase("ended").flatMap(({ stalled }) => stalled ?? []));
  if (named.size === 0) return false;
  return running.length === 1 || running.every(({ peerId }) => named.has(peerId));
}

/** Members that said goodbye, or that another job is to have, and are idle may go. */
export function releaseLeavers(draft: JobDraft): void {
  for (const member of Object.values(draft.job.members)) {
    if (!draft.isLeaving(member.peerId) || member.phase === "running") continue;
    const to = draft.job.yielding[member.peerId];
    const reason = to === undefined ? "it leaves the cluster" : `it is given to ${to}`;
    draft.effects.push({ kind: "stop", peerIds: [member.peerId], reason });
    delete draft.job.members[member.peerId];
    delete draft.job.yielding[member.peerId];
  }
}

/** Asks these to start a trainer: the queue has given them to the job. */
export function recruit(draft: JobDraft, peerIds: readonly string[]): void {
  const { job, world } = draft;
  const { max, spares } = job.spec.workers;
  if (isOver(job) || job.result) return;
  for (const peerId of peerIds) {
    const peer = world.peers.get(peerId);
    if (!peer?.eligible || !peer.connected || peer.leaving || job.members[peerId]) continue;
    if (Object.keys(job.members).length >= max + spares) break;
    job.members[peerId] = {
      peerId,
      incarnation: peer.incarnation,
      phase: "preparing",
      sinceMs: world.nowMs,
      host: "",
      port: 0,
      statePort: 0,
      point: null,
      pointOf: null,
      healing: false,
      engine: "",
      stage: stageFor(job, peerId),
      sizes: null,
    };
    draft.effects.push({ kind: "prepare", peerId });
  }
}

/**
 * Gives members back: to a job of higher priority, or to whoever can begin with them. Who is in the middle of something goes at the
 * next step boundary, as one that says goodbye does.
 *
 * @param to the job that they are for; null: an incomplete gang is given up
 */
export function giveBack(draft: JobDraft, peerIds: readonly string[], to: string | null): void {
  const { job } = draft;
  for (const peerId of peerIds) {
    const member = job.members[peerId];
    if (!member) continue;
    if (to !== null && draft.inPhase("running", "ended", "finished").includes(member))
      job.yielding[peerId] = to;
    else {
      const reason = to === null ? "its job waits for more agents than there are" : `it is given to ${to}`;
      draft.effects.push({ kind: "stop", peerIds: [peerId], reason });
      delete job.members[peerId];
    }
  }
}

/** A stage that has lost its last member gets one of another stage; and how far a beginning is. */
export function arrange(draft: JobDraft): void {
  const { job } = draft;
  if (isOver(job) || job.result) return;
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
