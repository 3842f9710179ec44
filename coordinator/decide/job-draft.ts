import type { GenerationPlan } from "../../protocol/messages/job.ts";
import { computeQuorum, type LinkLookup, type Quorum } from "./generation.ts";
import type { JobRecord, Member } from "./job-record.ts";
import type { QueueAgent } from "./queue-facts.ts";

export interface PeerFact {
  readonly peerId: string;
  readonly name: string;
  readonly incarnation: string;
  readonly connected: boolean;
  /** It said goodbye and waits to be released. */
  readonly leaving: boolean;
  /** It may be given to a job: a worker that none holds. */
  readonly eligible: boolean;
  /** Since it was last heard of. */
  readonly silentMs?: number;
  /** It has come and gone several times lately. */
  readonly flapping?: boolean;
}

export interface JobWorld {
  readonly peers: Pick<ReadonlyMap<string, PeerFact>, "get" | "has">;
  /** Who works, or could. */
  readonly agents?: () => readonly QueueAgent[];
  /** For waits: it runs evenly. */
  readonly nowMs: number;
  /** For people: what clocks show; as `nowMs` unless told. */
  readonly wallMs?: number;
  /** The coordinator has just started: a member that it does not know yet may be on its way back. */
  readonly gathering?: boolean;
  /** Measured links between workers. */
  readonly links?: LinkLookup;
}

export type JobEffect =
  | { readonly kind: "prepare"; readonly peerId: string }
  /** To all ranks of the plan, unless some are named. */
  | { readonly kind: "start"; readonly plan: GenerationPlan; readonly peerIds?: readonly string[] }
  | {
      readonly kind: "quiesce";
      readonly peerIds: readonly string[];
      readonly generation: number;
      /** Each rank writes a checkpoint there. */
      readonly checkpoint?: true;
    }
  | { readonly kind: "stop"; readonly peerIds: readonly string[]; readonly reason: string }
  | { readonly kind: "register" };

/** A job while one decision about it is made: the record to be, the effects so far, and the words they are written in. */
export class JobDraft {
  readonly job: JobRecord;
  readonly effects: JobEffect[] = [];
  readonly world: JobWorld;

  constructor(job: JobRecord, world: JobWorld) {
    this.job = job;
    this.world = world;
  }

  /** Members in one of these phases. */
  inPhase(...phases: readonly Member["phase"][]): Member[] {
    return Object.values(this.job.members).filter(({ phase }) => phases.includes(phase));
  }

  /** The next generation among the idle. @param running members that have not reported the end of the current one */
  quorum(running: readonly Member[]): Quorum {
    const candidates = this.inPhase("ready", "ended");
    const answered = new Set(candidates.map(({ peerId }) => peerId));
    const silent = [...this.job.silent, ...running.map(({ peerId }) => peerId)].filter(
      (peerId) => !answered.has(peerId) && this.mayLive(peerId),
    );
    const facts = {
      links: this.world.links,
      isInReach: (peerId: string) => this.world.peers.get(peerId)?.connected ?? false,
    };
    return computeQuorum({ ...this.job, changes: this.changes() }, candidates, silent, facts);
  }

  /** What changed since the last plan, with those who wait to join now: one of them may go again before it ever does. */
  changes(): string[] {
    const room = this.job.spec.workers.max - this.inPhase("running", "ended").length;
    const ready = this.inPhase("ready").sort((a, b) => (a.peerId < b.peerId ? -1 : 1));
    const newcomers = this.job.plan ? ready.slice(0, Math.max(0, room)) : []; // the others are spares
    return [...this.job.changes, ...newcomers.map(({ peerId }) => `${this.name(peerId)} joins`)];
  }

  /** For people. */
  get shownMs(): number {
    return this.world.wallMs ?? this.world.nowMs;
  }

  /** Since the current generation ended on its first rank; 0 while it runs. */
  interruptedMs(): number {
    return this.job.interruptedAtMs === null ? 0 : this.world.nowMs - this.job.interruptedAtMs;
  }

  /** The job cannot be done. @param reason for people; the message of the failure unless told */
  fail(failure: NonNullable<JobRecord["failure"]>, reason = `${failure.code}: ${failure.message}`): void {
    this.job.failure = { code: failure.code, message: failure.message };
    this.end("failed", reason);
  }

  /** The job is over; whoever works for it is sent home. */
  end(state: "succeeded" | "failed" | "cancelled", reason: string): void {
    const { job } = this;
    job.state = state;
    job.reason = reason;
    job.endedAtMs = this.shownMs;
    // A rank that was taken for dead may still be there.
    const peerIds = [...new Set([...Object.keys(job.members), ...job.peers])];
    if (peerIds.length > 0) this.effects.push({ kind: "stop", peerIds, reason });
    // A hold that was still under way is over, too, or it would make a pause of this end.
    Object.assign(job, { members: {}, yielding: {}, hold: null });
  }

  /** Takes a member out; when it was a rank, its generation is broken. */
  drop(member: Member, change: string): void {
    delete this.job.members[member.peerId];
    if (this.planned(member.peerId)) {
      this.job.changes.push(change);
      this.interrupt();
    }
  }

  /** The current generation is at its end. */
  interrupt(): void {
    this.job.interruptedAtMs ??= this.world.nowMs;
  }

  setPhase(member: Member, phase: Member["phase"]): void {
    member.phase = phase;
    member.sinceMs = this.world.nowMs;
  }

  /** Whether it is a rank of the current generation. */
  planned(peerId: string): boolean {
    return this.job.plan?.ranks.some((rank) => rank.peerId === peerId) ?? false;
  }

  /** Whether nothing says that it is dead. */
  mayLive(peerId: string): boolean {
    const peer = this.world.peers.get(peerId);
    return peer ? peer.connected : (this.world.gathering ?? false);
  }

  /** Whether it is to go at the next step boundary: it said goodbye, or another job is to have it. */
  isLeaving(peerId: string): boolean {
    return (this.world.peers.get(peerId)?.leaving ?? false) || this.job.yielding[peerId] !== undefined;
  }

  /** For people. */
  name(peerId: string): string {
    return this.world.peers.get(peerId)?.name ?? peerId.slice(-6);
  }
}
