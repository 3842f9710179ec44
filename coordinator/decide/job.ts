import { limits } from "../../protocol/limits.ts";
import type { GenerationPlan, JobReport } from "../../protocol/messages/job.ts";
import { computeQuorum, type LinkLookup } from "./generation.ts";
import { isOver, type JobRecord, type Member } from "./job-record.ts";

/**
 * The life of a job as a pure function: (record, event, world) -> (record, effects). The shell persists the record, then
 * carries out the effects; effects are idempotent, so repeating them after a crash is safe.
 */
export type JobEvent =
  | { readonly kind: "tick" }
  | { readonly kind: "report"; readonly from: string; readonly report: JobReport }
  | { readonly kind: "cancel" };

export interface PeerFact {
  readonly peerId: string;
  readonly name: string;
  readonly incarnation: string;
  readonly connected: boolean;
  /** It said goodbye and waits to be released. */
  readonly leaving: boolean;
  /** It may take part in this job: a worker that no other job holds. */
  readonly eligible: boolean;
  /** Since it was last heard of. */
  readonly silentMs?: number;
}

export interface JobWorld {
  readonly peers: ReadonlyMap<string, PeerFact>;
  readonly nowMs: number;
  /** The coordinator has just started: a member that it does not know yet may be on its way back. */
  readonly gathering?: boolean;
  /** Measured links between workers. */
  readonly links?: LinkLookup;
}

export type JobEffect =
  | { readonly kind: "prepare"; readonly peerId: string }
  /** To all ranks of the plan, unless some are named. */
  | { readonly kind: "start"; readonly plan: GenerationPlan; readonly peerIds?: readonly string[] }
  | { readonly kind: "quiesce"; readonly peerIds: readonly string[]; readonly generation: number }
  | { readonly kind: "stop"; readonly peerIds: readonly string[]; readonly reason: string }
  | { readonly kind: "register" };

/** After a ring broke, every survivor's socket has told it so; who has not reported after this long is stalled. */
const reformGraceMs = 3_000;
/** A ring of which nobody has been seen for this long is given up: as long as one rank waits for another. */
const abandonedMs = limits.hopTimeoutMs;
/** So many generations may start at one step without a pause between them. */
const hastyGenerations = 4;
const retryMs = { first: 500, most: 10_000 } as const;
/** A trainer that died this often on one agent is not tried there again. */
const failuresMax = 3;
const checkpointsKept = 200;

export function decideJob(
  record: JobRecord,
  event: JobEvent,
  world: JobWorld,
): { record: JobRecord; effects: JobEffect[] } {
  if (isOver(record)) return { record, effects: lateEffects(record, event) };
  const draft = new JobDraft(structuredClone(record), world);
  draft.apply(event);
  draft.dropLost();
  draft.advance();
  draft.recruit();
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
  const peerIds = inPhase("running");
  if (!job.plan || peerIds.length === 0) return effects;
  effects.push({ kind: "start", plan: job.plan, peerIds });
  if (job.pauseRequested) effects.push({ kind: "quiesce", peerIds, generation: job.plan.generation });
  return effects;
}

/** A trainer that speaks up after the end of its job (its agent was away) is sent home. */
function lateEffects(record: JobRecord, event: JobEvent): JobEffect[] {
  if (event.kind !== "report" || event.report.kind === "failed") return [];
  return [{ kind: "stop", peerIds: [event.from], reason: record.reason }];
}

class JobDraft {
  readonly job: JobRecord;
  readonly effects: JobEffect[] = [];
  readonly #world: JobWorld;

  constructor(job: JobRecord, world: JobWorld) {
    this.job = job;
    this.#world = world;
  }

  apply(event: JobEvent): void {
    if (event.kind === "cancel") this.#end("cancelled", "cancelled by an operator");
    if (event.kind !== "report") return;
    const member = this.job.members[event.from];
    if (member) this.#applyReport(member, event.report);
    else if (event.report.kind !== "failed")
      this.effects.push({ kind: "stop", peerIds: [event.from], reason: "not a member" });
  }

  #applyReport(member: Member, report: JobReport): void {
    const { job } = this;
    const current = "generation" in report && report.generation === job.plan?.generation;
    switch (report.kind) {
      case "ready":
        return this.#applyReady(member, report);
      case "ended":
        if (!current || member.phase !== "running") return;
        this.#setPhase(member, "ended");
        member.point = report.point;
        this.#interrupt();
        return;
      case "resumed": {
        const generation = job.generations.at(-1);
        if (!current || !generation || job.recoveringSinceMs === null) return;
        generation.recoveryMs = this.#world.nowMs - job.recoveringSinceMs;
        job.recoveringSinceMs = null;
        return;
      }
      case "checkpoint":
        return current ? this.#applyCheckpoint(member, report) : undefined;
      case "finished": {
        if (!current) return;
        this.#setPhase(member, "finished");
        member.point = report.point;
        const { point, weights, weightsBytes, evaluation } = report;
        job.result ??= { point, weights, weightsBytes, evaluation, atMs: this.#world.nowMs };
        return;
      }
      case "failed":
        if (report.fatal)
          return this.#end("failed", `${this.#name(member.peerId)}: ${report.code}: ${report.message}`);
        job.failures[member.peerId] = (job.failures[member.peerId] ?? 0) + 1;
        return this.#drop(member, `trainer of ${this.#name(member.peerId)} failed (${report.code})`);
      case "started":
      case "progress":
        return; // told to people by the shell; nothing to decide
    }
  }

  #applyReady(member: Member, report: Extract<JobReport, { kind: "ready" }>): void {
    const { job } = this;
    if (member.phase === "running") {
      if (member.host === report.host && member.port === report.port) return; // an echo: the plan is on its way
      // Another trainer than the planned one, whose death nobody told us of.
      this.#setPhase(member, "ended");
      this.#interrupt();
    }
    job.dataDigest ??= report.dataDigest;
    job.model ??= report.model;
    if (report.dataDigest !== job.dataDigest) {
      return this.#end(
        "failed",
        `DATA_MISMATCH: ${this.#name(member.peerId)} has other data than the first worker`,
      );
    }
    Object.assign(member, {
      host: report.host,
      port: report.port,
      point: report.point,
      engine: report.engine,
    });
    if (!job.engines.includes(report.engine)) job.engines.push(report.engine);
    if (member.phase !== "preparing") return;
    this.#setPhase(member, "ready");
    if (job.plan) job.changes.push(`${this.#name(member.peerId)} joins`);
  }

  #applyCheckpoint(member: Member, { point }: Extract<JobReport, { kind: "checkpoint" }>): void {
    const { job } = this;
    const known = job.checkpoints.find(({ step }) => step === point.step);
    if (!known) {
      job.checkpoints = [...job.checkpoints, { ...point, peers: [member.peerId] }].slice(-checkpointsKept);
    } else if (known.hash === point.hash) {
      if (!known.peers.includes(member.peerId)) known.peers.push(member.peerId);
    } else {
      const who = this.#name(member.peerId);
      this.#end("failed", `HASH_DIVERGED: ${who} has other parameters than its peers at step ${point.step}`);
    }
  }

  /** Members whose agent is gone. A running one is only lost once the ring has felt it, or its agent lives anew. */
  dropLost(): void {
    if (isOver(this.job)) return;
    if (this.#isAbandoned()) this.#interrupt();
    for (const member of Object.values(this.job.members)) {
      const peer = this.#world.peers.get(member.peerId);
      if (!peer && this.#world.gathering) continue;
      if (peer && peer.incarnation !== member.incarnation) this.#drop(member, `${peer.name} restarted`);
      else if (peer?.connected) continue;
      else if (member.phase !== "running" || this.job.interruptedAtMs !== null) {
        this.#drop(member, `${this.#name(member.peerId)} died`);
      }
    }
    this.#dropOverdue();
  }

  /** Whether all who run the current generation have been gone for long: then no survivor will report its end. */
  #isAbandoned(): boolean {
    const running = Object.values(this.job.members).filter(({ phase }) => phase === "running");
    return (
      running.length > 0 &&
      running.every(({ peerId, sinceMs }) => {
        const peer = this.#world.peers.get(peerId);
        const silentMs = peer ? (peer.silentMs ?? 0) : this.#world.nowMs - sinceMs;
        return !peer?.connected && silentMs > abandonedMs;
      })
    );
  }

  #dropOverdue(): void {
    const { nowMs } = this.#world;
    for (const member of Object.values(this.job.members)) {
      const waitedMs = nowMs - member.sinceMs;
      if (member.phase === "preparing" && waitedMs > limits.prepareTimeoutMs) {
        this.effects.push({ kind: "stop", peerIds: [member.peerId], reason: "did not become ready in time" });
        this.#drop(member, `${this.#name(member.peerId)} did not become ready in time`);
      }
      const interruptedMs = this.job.interruptedAtMs === null ? 0 : nowMs - this.job.interruptedAtMs;
      if (member.phase === "running" && interruptedMs > reformGraceMs) {
        this.job.silent.push(member.peerId);
        this.effects.push({
          kind: "stop",
          peerIds: [member.peerId],
          reason: "stalled when the ring re-formed",
        });
        this.#drop(member, `${this.#name(member.peerId)} stalled`);
      }
    }
  }

  /** Moves the job on as far as it can go now. */
  advance(): void {
    const { job } = this;
    if (isOver(job)) return;
    const inPlan = Object.values(job.members).filter(({ peerId }) => this.#planned(peerId));
    const running = inPlan.filter(({ phase }) => phase === "running");
    if (job.result && (running.length === 0 || this.#world.nowMs - job.result.atMs > reformGraceMs))
      return this.#succeed();
    if (job.plan && job.interruptedAtMs === null && running.length === job.plan.ranks.length) {
      job.state = "running";
      return this.#pauseForChange(running);
    }
    if (job.result) return; // the others are about to say that they have finished, too
    if (job.plan && running.length > 0) {
      // Some have ended: the others' sockets are closing at this moment, or wait to be linked with somebody who is gone.
      this.#interrupt();
      job.state = "reforming";
      job.reason = job.changes.length > 0 ? job.changes.join(", ") : "the ring broke";
      return this.#requestPause(running);
    }
    this.#form();
  }

  /** A clean change: newcomers are ready or someone wants to leave, so the ring pauses at its next step boundary. */
  #pauseForChange(running: readonly Member[]): void {
    const { job } = this;
    const leaving = running.filter(({ peerId }) => this.#world.peers.get(peerId)?.leaving);
    const room = job.spec.workers.max - running.length + leaving.length;
    const joining = Object.values(job.members).filter(
      ({ peerId, phase }) => phase === "ready" && !this.#planned(peerId),
    );
    if (job.pauseRequested || (leaving.length === 0 && (joining.length === 0 || room <= 0))) return;
    for (const { peerId } of leaving) job.changes.push(`${this.#name(peerId)} leaves`);
    this.#requestPause(running);
  }

  /** Once a generation. */
  #requestPause(running: readonly Member[]): void {
    const { job } = this;
    if (job.pauseRequested) return;
    job.pauseRequested = true;
    const peerIds = running.map(({ peerId }) => peerId);
    this.effects.push({ kind: "quiesce", peerIds, generation: job.plan!.generation });
  }

  #form(): void {
    const { job } = this;
    this.#releaseLeavers();
    const members = Object.values(job.members);
    const preparing = members.filter(({ phase }) => phase === "preparing").length;
    const candidates = members.filter(({ phase }) => phase === "ready" || phase === "ended");
    const answered = new Set(candidates.map(({ peerId }) => peerId));
    const silent = job.silent.filter((peerId) => !answered.has(peerId) && this.#mayLive(peerId));
    if (!job.plan && preparing > 0) {
      job.state = "preparing";
      job.reason = `${candidates.length} of ${members.length} workers are ready`;
      return;
    }
    const missing = candidates.filter(({ peerId }) => !this.#world.peers.has(peerId));
    if (missing.length > 0) {
      job.reason = `waits for ${missing.length} of its workers to come back to this coordinator`;
      return;
    }
    const { plan, reason } = computeQuorum(job, candidates, silent, this.#world.links);
    job.reason = reason;
    const waitMs = plan ? this.#untilRetryMs(plan) : 0;
    if (waitMs > 0) {
      job.state = "reforming";
      job.reason = `the ring broke again before its first step; tries anew in ${Math.ceil(waitMs / 1_000)} s`;
      return;
    }
    if (!plan) {
      job.state = job.plan ? "reforming" : "waiting";
      return;
    }
    this.#adopt(plan);
  }

  /** Rings that break before their first step, again and again, are formed ever more slowly: two ranks may not reach each other. */
  #untilRetryMs(plan: GenerationPlan): number {
    const { generations, interruptedAtMs } = this.job;
    const progressed = generations.findLastIndex(({ startStep }) => startStep !== plan.start.step);
    const repeated = generations.length - 1 - progressed - hastyGenerations;
    if (repeated <= 0 || interruptedAtMs === null) return 0;
    const delayMs = Math.min(retryMs.most, retryMs.first * 2 ** (repeated - 1));
    return interruptedAtMs + delayMs - this.#world.nowMs;
  }

  #adopt(plan: GenerationPlan): void {
    const { job } = this;
    const { nowMs } = this.#world;
    job.plan = plan;
    job.state = "running";
    job.startedAtMs ??= nowMs;
    job.pauseRequested = false;
    job.changes = [];
    job.silent = [];
    job.recoveringSinceMs ??= job.interruptedAtMs; // a ring that breaks before its first step: still the same outage
    job.interruptedAtMs = null;
    // Later ones died with their owners; trained again in another world, those steps have other bits.
    job.checkpoints = job.checkpoints.filter(({ step }) => step <= plan.start.step);
    job.generations.push({
      generation: plan.generation,
      ranks: plan.ranks.map(({ peerId }) => peerId),
      startStep: plan.start.step,
      reason: plan.reason,
      startedAtMs: nowMs,
      recoveryMs: null,
      predictedCommunicationMs: plan.predictedCommunicationMs,
    });
    for (const { peerId } of plan.ranks) {
      this.#setPhase(job.members[peerId]!, "running");
      if (!job.peers.includes(peerId)) job.peers.push(peerId);
    }
    this.effects.push({ kind: "start", plan });
  }

  #releaseLeavers(): void {
    for (const member of Object.values(this.job.members)) {
      if (!this.#world.peers.get(member.peerId)?.leaving || member.phase === "running") continue;
      this.effects.push({ kind: "stop", peerIds: [member.peerId], reason: "it leaves the cluster" });
      delete this.job.members[member.peerId];
    }
  }

  /** Asks idle workers to start a trainer, up to `workers.max`. */
  recruit(): void {
    const { job } = this;
    if (isOver(job) || job.result) return;
    const eligible = [...this.#world.peers.values()]
      .filter(
        ({ peerId, eligible, connected, leaving }) =>
          eligible && connected && !leaving && !job.members[peerId],
      )
      .filter(({ peerId }) => (job.failures[peerId] ?? 0) < failuresMax)
      .sort((a, b) => (a.peerId < b.peerId ? -1 : 1));
    for (const { peerId, incarnation } of eligible) {
      if (Object.keys(job.members).length >= job.spec.workers.max) break;
      const sinceMs = this.#world.nowMs;
      job.members[peerId] = {
        peerId,
        incarnation,
        phase: "preparing",
        sinceMs,
        host: "",
        port: 0,
        point: null,
        engine: "",
      };
      this.effects.push({ kind: "prepare", peerId });
    }
    const members = Object.values(job.members);
    const preparing = members.filter(({ phase }) => phase === "preparing").length;
    if (job.plan || preparing === 0 || job.state !== "waiting") return;
    job.state = "preparing";
    job.reason = `${members.length - preparing} of ${members.length} workers are ready`;
  }

  #succeed(): void {
    const { accuracy } = this.job.result!.evaluation;
    this.#end("succeeded", `accuracy ${(100 * accuracy).toFixed(2)}% on the held-out examples`);
    this.effects.push({ kind: "register" });
  }

  #end(state: "succeeded" | "failed" | "cancelled", reason: string): void {
    const { job } = this;
    job.state = state;
    job.reason = reason;
    job.endedAtMs = this.#world.nowMs;
    // A rank that was taken for dead may still be there.
    const peerIds = [...new Set([...Object.keys(job.members), ...job.peers])];
    if (peerIds.length > 0) this.effects.push({ kind: "stop", peerIds, reason });
    job.members = {};
  }

  #drop(member: Member, change: string): void {
    delete this.job.members[member.peerId];
    if (this.#planned(member.peerId)) {
      this.job.changes.push(change);
      this.#interrupt();
    }
  }

  #interrupt(): void {
    this.job.interruptedAtMs ??= this.#world.nowMs;
  }

  #setPhase(member: Member, phase: Member["phase"]): void {
    member.phase = phase;
    member.sinceMs = this.#world.nowMs;
  }

  #planned(peerId: string): boolean {
    return this.job.plan?.ranks.some((rank) => rank.peerId === peerId) ?? false;
  }

  #mayLive(peerId: string): boolean {
    const peer = this.#world.peers.get(peerId);
    return peer ? peer.connected : (this.#world.gathering ?? false);
  }

  #name(peerId: string): string {
    return this.#world.peers.get(peerId)?.name ?? peerId.slice(-6);
  }
}
