import { RingfoldError } from "../protocol/errors.ts";
import { shortPeer } from "../protocol/ids.ts";
import type { JobSpec } from "../protocol/job-spec.ts";
import { limits } from "../protocol/limits.ts";
import type { JobView, SteerAction } from "../protocol/messages/api.ts";
import type { JobReport, LossPoint, Progress } from "../protocol/messages/job.ts";
import type { VersionManifest } from "../protocol/messages/model.ts";
import type { StoreWrite } from "../protocol/ports.ts";
import { madeIn } from "../protocol/provenance.ts";
import { CommandOutbox } from "./command-outbox.ts";
import type { CoordinatorContext } from "./context.ts";
import type { Decision } from "./decide/decision.ts";
import { decideJob, effectsInForce, type JobEffect, type JobEvent } from "./decide/job.ts";
import { jobNews } from "./decide/job-news.ts";
import { generationCount, isOver, type JobRecord, newJob } from "./decide/job-record.ts";
import { assertSteerable } from "./decide/job-steering.ts";
import { stateToFetch } from "./decide/job-trial.ts";
import { commandOfEffect } from "./job-commands.ts";
import { JobWorld } from "./job-world.ts";
import { collections } from "./state.ts";
import { trainedJob, vouchedReport } from "./vouched-report.ts";

/** What runs ahead of the store: lost with the coordinator, and told again by the next report. */
interface LiveProgress {
  progress: Omit<Progress, "points"> | null;
  curve: LossPoint[];
}

/** After its own start a coordinator takes nobody for dead for so long: agents look for it every five seconds. */
const gatheringMs = 2 * limits.heartbeatTimeoutMs;

const steeringEvents = {
  cancel: "job-cancelled",
  pause: "job-paused",
  resume: "job-resumed",
  retry: "job-retried",
} as const;

/** The shell around `decideJob`: event in, pure decision, durable, then act. One event at a time. */
export class JobDesk {
  readonly #context: CoordinatorContext;
  readonly #jobs: Map<string, JobRecord>;
  readonly #live = new Map<string, LiveProgress>();
  readonly #commands: CommandOutbox;
  readonly #world: JobWorld;
  readonly #startedAtMs: number;

  constructor(context: CoordinatorContext) {
    this.#context = context;
    this.#startedAtMs = context.clock.nowMs();
    this.#commands = new CommandOutbox(context);
    this.#jobs = new Map(collections.jobs.readAll(context.store).map((job) => [job.id, job]));
    this.#world = new JobWorld(context, () => new Set([...this.#jobs.values()].flatMap(workersOf)));
  }

  /** After a restart: what was decided before it may not have been told. */
  resume(): void {
    for (const job of this.#jobs.values())
      for (const effect of effectsInForce(job)) this.#act(job.id, effect);
  }

  close(): void {
    this.#commands.close();
  }

  views(): JobView[] {
    return [...this.#jobs.values()].map((job) => this.#view(job));
  }

  /** @throws RingfoldError NOT_FOUND */
  view(jobId: string): JobView {
    return this.#view(this.#get(jobId));
  }

  /** Of the record; progress is none of it. @throws RingfoldError NOT_FOUND */
  revision(jobId: string): string {
    return collections.jobs.revision(this.#context.store, this.#get(jobId).id);
  }

  /** @throws RingfoldError NOT_FOUND */
  curve(jobId: string): LossPoint[] {
    this.#get(jobId);
    return this.#live.get(jobId)?.curve ?? collections.curves.read(this.#context.store, jobId) ?? [];
  }

  /**
   * @param trial which of a sweep's, and where it pauses
   * @throws RingfoldError NOT_FOUND when there is no version that it would begin with
   */
  async submit(spec: JobSpec, trial?: Pick<JobRecord, "trial" | "bound">): Promise<JobView> {
    const { store, clock, versions } = this.#context;
    const base = spec.from === undefined ? undefined : versions.named(spec.from);
    // An alias may move; what the job begins with does not.
    const from = base ? { from: `${base.manifest.name}@${base.version}` } : {};
    const number = (collections.counters.read(store, "job") ?? 0) + 1;
    const job = {
      ...newJob(`job-${number}`, { ...spec, ...from }, clock.nowMs()),
      ...{ base: base?.manifest.weights.digest ?? null, ...trial },
    };
    const event = { kind: "job-submitted", jobId: job.id } as const;
    const extra = [collections.counters.put("job", number)];
    const who = { kind: trial ? "coordinator" : "operator" } as const;
    await this.#commit(undefined, job, { who, event }, extra);
    await this.#handle(job.id, { kind: "tick" });
    return this.view(job.id);
  }

  /** @throws RingfoldError NOT_FOUND | CONFLICT when it makes no sense for the job as it is */
  async steer(jobId: string, action: SteerAction, reason: string): Promise<JobView> {
    assertSteerable(this.#get(jobId), action);
    await this.#handle(jobId, { kind: "steer", action, reason });
    return this.view(jobId);
  }

  /** The jobs of a sweep's trials. */
  trialsOf(sweepId: string): JobRecord[] {
    return [...this.#jobs.values()].filter(({ trial }) => trial?.sweep === sweepId);
  }

  /** What a sweep wants of one of its trials; nothing happens where it makes no sense any more. */
  async steerTrial(jobId: string, event: Extract<JobEvent, { kind: "continue" | "stop" }>): Promise<void> {
    await this.#handle(jobId, event);
  }

  /** Agents that could work for such a job and work for none. */
  idleAgents(spec: JobSpec): number {
    return [...this.#world.peers(spec).values()].filter(
      ({ eligible, connected, leaving }) => eligible && connected && !leaving,
    ).length;
  }

  async report(from: string, report: JobReport): Promise<void> {
    if (report.kind === "progress") this.#recordProgress(report);
    else if (this.#jobs.has(report.jobId)) {
      const vouched = await vouchedReport(from, report, this.#jobs.get(report.jobId), this.#context);
      await this.#handle(report.jobId, { kind: "report", from, report: vouched });
    } else this.#act(report.jobId, { kind: "stop", peerIds: [from], reason: "no such job" });
  }

  /** Time or membership has moved on: each job that is not over looks around. */
  async lookAround(): Promise<void> {
    await this.#world.shared(async () => {
      for (const job of this.#jobs.values()) if (!isOver(job)) await this.#handle(job.id, { kind: "tick" });
    });
  }

  /** Whether any job still counts on this peer. */
  involves(peerId: string): boolean {
    return [...this.#jobs.values()].some((job) => !isOver(job) && job.members[peerId] !== undefined);
  }

  /** Whether a job that is not over trains on this data set. */
  trainsOn(digest: string): boolean {
    return [...this.#jobs.values()].some(
      (job) => !isOver(job) && job.spec.data.source === "dataset" && job.spec.data.digest === digest,
    );
  }

  /** Jobs that are not over and begin with a version of this name, by its number. */
  beginningWith(name: string): Map<number, string> {
    return new Map(
      [...this.#jobs.values()]
        .filter((job) => !isOver(job) && job.spec.from?.split("@")[0] === name)
        .map(({ id, spec }) => [Number(spec.from!.split("@")[1]), id]),
    );
  }

  find(jobId: string): JobRecord | undefined {
    return this.#jobs.get(jobId);
  }

  records(): Iterable<JobRecord> {
    return this.#jobs.values();
  }

  /** Nobody goes on from them any more. @throws RingfoldError NOT_FOUND */
  async dropCheckpoints(jobId: string): Promise<void> {
    const job = this.#get(jobId);
    const told = { who: { kind: "coordinator" }, event: { kind: "checkpoints-released", jobId } } as const;
    await this.#commit(job, { ...job, checkpoints: [], dissents: [] }, told);
  }

  async #handle(jobId: string, event: JobEvent): Promise<void> {
    const before = this.#get(jobId);
    const nowMs = this.#context.clock.nowMs();
    const gathering = nowMs - this.#startedAtMs < gatheringMs;
    const peers = this.#world.peers(before.spec);
    const world = { peers, nowMs, gathering, links: this.#context.peers.link };
    const { record, effects } = decideJob(before, event, world);
    const registered = effects.some(({ kind }) => kind === "register");
    const version = registered
      ? this.#context.versions.prepare(this.#manifest(record), record.result?.attestation)
      : undefined;
    if (version) record.version = `${version.record.manifest.name}@${version.record.version}`;
    await this.#commit(before, record, this.#told(jobId, event), version ? [version.write] : []);
    if (version) this.#context.versions.commit(version.record);
    for (const effect of effects) this.#act(jobId, effect);
  }

  /** Durable before visible: the store first, then memory, then people. */
  async #commit(
    before: JobRecord | undefined,
    record: JobRecord,
    told: Pick<Decision, "who" | "event">,
    extra: readonly StoreWrite[] = [],
  ): Promise<void> {
    if (before && extra.length === 0 && JSON.stringify(before) === JSON.stringify(record)) return;
    const { decisions, changed } = this.#context;
    const writes = [collections.jobs.put(record.id, record), ...extra];
    if (isOver(record))
      writes.push(collections.curves.put(record.id, this.#live.get(record.id)?.curve ?? []));
    const news = jobNews(before, record, this.#nameOf);
    const reason = news.join("; ") || record.reason;
    const subject = `${record.id} ${record.spec.name}`;
    await decisions.commit({ ...told, subject, reason, isNews: news.length > 0 }, writes);
    this.#jobs.set(record.id, record);
    if (!before || workersOf(before).join() !== workersOf(record).join()) this.#world.membersChanged();
    changed();
  }

  /** Who made us decide, and by what. */
  #told(jobId: string, event: JobEvent): Pick<Decision, "who" | "event"> {
    switch (event.kind) {
      case "tick":
        return { who: { kind: "coordinator" }, event: { kind: "job-looked-at", jobId } };
      case "steer":
        return { who: { kind: "operator" }, event: { kind: steeringEvents[event.action], jobId } };
      case "continue":
        return {
          who: { kind: "coordinator" },
          event: { kind: "job-continued", jobId, epochs: event.epochs },
        };
      case "stop":
        return { who: { kind: "coordinator" }, event: { kind: "job-stopped", jobId } };
      case "report": {
        const { from: peerId, report } = event;
        const generation = "generation" in report ? report.generation : null;
        return {
          who: { kind: "peer", peerId, name: this.#nameOf(peerId) },
          event: { kind: "job-reported", jobId, report: report.kind, generation },
        };
      }
    }
  }

  readonly #nameOf = (peerId: string): string =>
    this.#context.peers.get(peerId)?.hello.name ?? shortPeer(peerId);

  #manifest(job: JobRecord): VersionManifest {
    const { name, model, weights, lineage, metrics } = madeIn(trainedJob(job)!, job.result!);
    return {
      ...{ format: 1, name, model, weights },
      lineage: {
        ...lineage,
        generations: generationCount(job),
        peers: job.peers,
        engines: job.engines,
        release: this.#context.release,
      },
      metrics,
      createdAtMs: this.#context.clock.nowMs(),
    };
  }

  /** Commands are not awaited: the answer that counts is the agent's report. */
  #act(jobId: string, effect: JobEffect): void {
    if (effect.kind === "register") return; // written with the decision
    const job = (peerId: string) => {
      const record = this.#get(jobId);
      const { spec, base, bound, members } = record;
      const state = stateToFetch(record);
      const stage = members[peerId]?.stage ?? null;
      return {
        spec,
        ...(base === null ? {} : { base }),
        ...(bound === null ? {} : { bound }),
        ...(stage === null ? {} : { stage }),
        ...(state ? { state } : {}),
      };
    };
    const { peerIds, command } = commandOfEffect(effect, { term: this.#context.term, jobId, job });
    for (const peerId of peerIds) this.#commands.push({ peerId, jobId }, command);
  }

  #recordProgress({ jobId, generation, progress }: Extract<JobReport, { kind: "progress" }>): void {
    const job = this.#jobs.get(jobId);
    if (!job || isOver(job) || job.plan?.generation !== generation) return;
    const { points, ...rest } = progress;
    const live = this.#live.get(jobId) ?? { progress: null, curve: [] };
    live.progress = rest;
    // Steps that a broken ring took back are told again.
    const firstStep = points[0]?.step ?? Number.POSITIVE_INFINITY;
    live.curve = thinned([...live.curve.filter(({ step }) => step < firstStep), ...points]);
    this.#live.set(jobId, live);
    this.#context.changed();
  }

  #view(job: JobRecord): JobView {
    const { id, state, reason, submittedAtMs, startedAtMs, endedAtMs, version, failure } = job;
    const generations = { generations: job.generations, generationCount: generationCount(job) };
    const checkpoints = job.checkpoints.map(({ step, hash, peers }) => ({ step, hash, ranks: peers.length }));
    const progress = this.#live.get(id)?.progress ?? null;
    const { trial } = job;
    const evaluation = job.result?.evaluation ?? null;
    const times = { submittedAtMs, startedAtMs, endedAtMs };
    const outcome = { checkpoints, evaluations: job.evaluations, evaluation, version, failure };
    // A script is as large as hundreds of views; its digest says which one it is.
    const { script } = job.spec;
    const spec = script ? { ...job.spec, script: { ...script, source: "" } } : job.spec;
    return { id, spec, trial, state, reason, ...times, progress, ...generations, ...outcome };
  }

  #get(jobId: string): JobRecord {
    const job = this.#jobs.get(jobId);
    if (!job) throw new RingfoldError("NOT_FOUND", `there is no job ${jobId}`, { jobId });
    return job;
  }
}

/** Whom a job keeps from other jobs. */
const workersOf = (job: JobRecord): string[] => (isOver(job) ? [] : Object.keys(job.members));

/** Bounded by dropping every second point: an old stretch of the curve loses detail, never its shape. */
const thinned = (curve: LossPoint[]): LossPoint[] =>
  curve.length <= limits.lossCurvePointsMax
    ? curve
    : curve.filter((_, i) => i % 2 === 0 || i === curve.length - 1);
