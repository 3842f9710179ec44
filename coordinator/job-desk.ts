import { RingfoldError } from "../protocol/errors.ts";
import { shortPeer } from "../protocol/ids.ts";
import type { JobSpec } from "../protocol/job-spec.ts";
import { limits } from "../protocol/limits.ts";
import type { JobView, SteerAction } from "../protocol/messages/api.ts";
import type { JobReport, LossPoint } from "../protocol/messages/job-report.ts";
import type { StoreWrite } from "../protocol/ports.ts";
import { CommandOutbox } from "./command-outbox.ts";
import type { CoordinatorContext } from "./context.ts";
import type { Decision } from "./decide/decision.ts";
import { mayReleaseCheckpoints } from "./decide/garbage.ts";
import { decideJob, effectsInForce, type JobEffect, type JobEvent } from "./decide/job.ts";
import { jobNews } from "./decide/job-news.ts";
import { isOver, type JobRecord, newJob } from "./decide/job-record.ts";
import { assertSteerable } from "./decide/job-steering.ts";
import { takenOver } from "./decide/job-term.ts";
import { stateToFetch } from "./decide/job-trial.ts";
import type { QuotaRecord } from "./decide/queue-facts.ts";
import type { Registration } from "./document-desk.ts";
import { commandOfEffect } from "./job-commands.ts";
import { manifestOf } from "./job-manifest.ts";
import { JobProgress } from "./job-progress.ts";
import { JobQueue } from "./job-queue.ts";
import { JobTable, workersOf } from "./job-table.ts";
import { toldOf } from "./job-told.ts";
import { jobView } from "./job-view.ts";
import { JobWorld } from "./job-world.ts";
import { collections } from "./state.ts";
import { vouchedReport } from "./vouched-report.ts";

/** A decision about the queue that lets agents go is followed by another one; the next look does what this leaves. */
const queueRoundsMax = 4;

/** The shell around `decideJob`: event in, pure decision, durable, then act. One event at a time. */
export class JobDesk {
  readonly #context: CoordinatorContext;
  readonly #jobs: JobTable;
  readonly #progress = new JobProgress();
  readonly #commands: CommandOutbox;
  readonly #world: JobWorld;
  readonly #queue: JobQueue;

  /** @param quotas by project */
  constructor(context: CoordinatorContext, quotas: () => ReadonlyMap<string, QuotaRecord>) {
    this.#context = context;
    this.#commands = new CommandOutbox(context);
    const { startedAtMs } = context.time;
    const stored = collections.jobs.readAll(context.store);
    this.#jobs = new JobTable(stored.map((job) => (isOver(job) ? job : takenOver(job, startedAtMs))));
    this.#world = new JobWorld(context, (peerId) => this.#jobs.isEmployed(peerId));
    const modules = { jobs: this.#jobs, world: this.#world, quotas, changed: context.changed };
    this.#queue = new JobQueue({ ...modules, gathering: () => this.#isGathering() });
  }

  /** After a restart: what was decided before it may not have been told. */
  resume(): void {
    for (const job of this.#jobs.open()) for (const effect of effectsInForce(job)) this.#act(job.id, effect);
  }

  close(): void {
    this.#commands.close();
  }

  views(): JobView[] {
    return [...this.#jobs.all()].map((job) => this.#view(job));
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
    return this.#progress.curve(jobId) ?? collections.curves.read(this.#context.store, jobId) ?? [];
  }

  /**
   * @param by its configuration, asked for once it is known that it can be begun; or which of a sweep's trials it is, where that pauses, and
   * by what the sweep goes
   * @throws RingfoldError NOT_FOUND when there is no version that it would begin with
   */
  async submit(
    spec: JobSpec,
    by: { readonly register: () => Promise<Registration> } | Pick<JobRecord, "trial" | "bound" | "config">,
  ): Promise<JobView> {
    const { store, clock, versions } = this.#context;
    const base = spec.from === undefined ? undefined : versions.named(spec.from);
    // An alias may move; what the job begins with does not.
    const from = base ? { from: `${base.manifest.name}@${base.version}` } : {};
    const config = "register" in by ? await by.register() : undefined;
    const origin = "register" in by ? {} : by;
    const number = (collections.counters.read(store, "job") ?? 0) + 1;
    const job = {
      ...newJob(`job-${number}`, { ...spec, ...from }, clock.nowMs()),
      ...{ base: base?.manifest.weights.digest ?? null, ...origin },
      ...(config && { config: config.reference }),
    };
    const event = { kind: "job-submitted", jobId: job.id } as const;
    const extra = [collections.counters.put("job", number), ...(config?.writes ?? [])];
    const who = { kind: config ? "operator" : "coordinator" } as const;
    await this.#commit(undefined, job, { who, event }, extra);
    config?.written();
    await this.#happen(job.id, { kind: "tick" });
    return this.view(job.id);
  }

  /** @throws RingfoldError NOT_FOUND | CONFLICT when it makes no sense for the job as it is */
  async steer(jobId: string, action: SteerAction, reason: string): Promise<JobView> {
    assertSteerable(this.#get(jobId), action);
    await this.#happen(jobId, { kind: "steer", action, reason });
    return this.view(jobId);
  }

  /** Its place in the queue from now on. @throws RingfoldError NOT_FOUND | CONFLICT when it is over */
  async prioritise(jobId: string, priority: number, reason: string): Promise<JobView> {
    const { state } = this.#get(jobId);
    if (isOver(this.#get(jobId)))
      throw new RingfoldError("CONFLICT", `${jobId} is over: ${state}`, { jobId, state });
    await this.#happen(jobId, { kind: "prioritised", priority, reason });
    return this.view(jobId);
  }

  /** The jobs of a sweep's trials. */
  trialsOf(sweepId: string): JobRecord[] {
    return this.#jobs.trialsOf(sweepId);
  }

  /** What a sweep wants of one of its trials; nothing happens where it makes no sense any more. */
  async steerTrial(jobId: string, event: Extract<JobEvent, { kind: "continue" | "stop" }>): Promise<void> {
    await this.#happen(jobId, event);
  }

  /** Agents that such a job would get at once: no job that goes before it wants them. */
  idleAgents(spec: JobSpec): number {
    return this.#queue.free(spec);
  }

  async report(from: string, report: JobReport): Promise<void> {
    if (report.kind === "progress") this.#recordProgress(report);
    else if (this.#jobs.get(report.jobId)) {
      const vouched = await vouchedReport(from, report, this.#jobs.get(report.jobId), this.#context);
      await this.#happen(report.jobId, { kind: "report", from, report: vouched });
    } else if (report.kind !== "held")
      this.#act(report.jobId, { kind: "stop", peerIds: [from], reason: "no such job" });
  }

  /** Time, membership or quotas have moved on: each job that is not over looks around, then all in the queue. */
  async lookAround(): Promise<void> {
    await this.#world.shared(async () => {
      for (const job of [...this.#jobs.open()]) await this.#attend(job.id, { kind: "tick" });
      this.#queue.factsChanged();
      await this.#serveQueue();
    });
  }

  /** Whether it waits for agents. */
  isQueued(jobId: string): boolean {
    return this.#queue.wait(jobId) !== undefined;
  }

  /** Whether any job still counts on this peer. */
  involves(peerId: string): boolean {
    return this.#jobs.isEmployed(peerId);
  }

  /** Whether a job that is not over trains on this data set. */
  trainsOn(digest: string): boolean {
    return [...this.#jobs.open()].some(
      ({ spec: { data } }) => data.source === "dataset" && data.digest === digest,
    );
  }

  /** Why versions of a name must stay, by number: jobs that are not over begin with them, or such as may be tried again. */
  beginningWith(name: string): Map<number, string> {
    const reasons = new Map<number, string>();
    const nowMs = this.#context.clock.nowMs();
    for (const job of this.#jobs.all()) {
      const [base, number] = job.spec.from?.split("@") ?? [];
      if (base !== name || mayReleaseCheckpoints(job, nowMs)) continue;
      const again = isOver(job) ? ", and may be tried again" : "";
      reasons.set(Number(number), `${job.id} begins with it${again}`);
    }
    return reasons;
  }

  find(jobId: string): JobRecord | undefined {
    return this.#jobs.get(jobId);
  }

  records(): Iterable<JobRecord> {
    return this.#jobs.all();
  }

  /** Grows when a job ends, and with each change of one that has. */
  get endings(): number {
    return this.#jobs.endings;
  }

  /** Nobody goes on from them any more. @throws RingfoldError NOT_FOUND */
  async dropCheckpoints(jobId: string): Promise<void> {
    const job = this.#get(jobId);
    const told = { who: { kind: "coordinator" }, event: { kind: "checkpoints-released", jobId } } as const;
    await this.#commit(job, { ...job, checkpoints: [], dissents: [] }, told);
  }

  /** And what it means for those that wait. */
  async #happen(jobId: string, event: JobEvent): Promise<void> {
    await this.#world.shared(async () => {
      await this.#handle(jobId, event);
      await this.#serveQueue();
    });
  }

  async #serveQueue(): Promise<void> {
    for (let round = 0; this.#queue.isStale && round < queueRoundsMax; round++) {
      const { grants, returns } = this.#queue.decide();
      for (const [jobId, given] of returns) await this.#attend(jobId, { kind: "reduced", ...given });
      for (const [jobId, peerIds] of grants) await this.#attend(jobId, { kind: "granted", peerIds });
    }
  }

  /** What nobody has asked for: that it fails is this job's matter alone. */
  #attend(jobId: string, event: JobEvent): Promise<void> {
    return this.#context.apart.run(jobId, () => this.#handle(jobId, event));
  }

  #isGathering(): boolean {
    return this.#context.time.sinceStartMs() < limits.gatheringMs;
  }

  async #handle(jobId: string, event: JobEvent): Promise<void> {
    const before = this.#get(jobId);
    const { clock, time, peers: table } = this.#context;
    const [nowMs, wallMs] = [time.nowMs(), clock.nowMs()];
    const peers = this.#world.peers();
    const agents = () => this.#world.agents();
    const world = { peers, agents, nowMs, wallMs, gathering: this.#isGathering(), links: table.link };
    const { record, effects } = decideJob(before, event, world);
    const { release } = this.#context;
    const registered = effects.some(({ kind }) => kind === "register");
    const version = registered
      ? await this.#context.registrar.prepare(
          manifestOf(record, { release, nowMs: wallMs }),
          record.result?.attestation,
        )
      : undefined;
    if (version) record.version = `${version.record.manifest.name}@${version.record.version}`;
    await this.#commit(before, record, toldOf(jobId, event, this.#nameOf), version ? [version.write] : []);
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
    if (before === record) return; // as most looks leave it
    if (before && extra.length === 0 && JSON.stringify(before) === JSON.stringify(record)) return;
    const { decisions, changed } = this.#context;
    const writes = [collections.jobs.put(record.id, record), ...extra];
    if (isOver(record)) writes.push(collections.curves.put(record.id, this.#progress.curve(record.id) ?? []));
    const news = jobNews(before, record, this.#nameOf);
    const reason = news.join("; ") || record.reason;
    const subject = `${record.id} ${record.spec.name}`;
    await decisions.commit({ ...told, subject, reason, isNews: news.length > 0 }, writes);
    this.#jobs.put(record);
    this.#queue.heardOf(before, record);
    if (workersOf(before).join() !== workersOf(record).join()) this.#world.membersChanged();
    changed();
  }

  readonly #nameOf = (peerId: string): string =>
    this.#context.peers.get(peerId)?.hello.name ?? shortPeer(peerId);

  /** Commands are not awaited: the answer that counts is the agent's report. */
  #act(jobId: string, effect: JobEffect): void {
    if (effect.kind === "register") return; // written with the decision
    const job = (peerId: string) => {
      const record = this.#get(jobId);
      const { spec, base, bound, members, plan } = record;
      const state = stateToFetch(record);
      const stage = members[peerId]?.stage ?? null;
      return {
        spec,
        ...(base === null ? {} : { base }),
        ...(bound === null ? {} : { bound }),
        ...(stage === null ? {} : { stage }),
        ...(state ? { state } : {}),
        ...(plan ? { generation: plan.generation } : {}),
      };
    };
    const { peerIds, command } = commandOfEffect(effect, { term: this.#context.term, jobId, job });
    for (const peerId of peerIds) this.#commands.push({ peerId, jobId }, command);
  }

  #recordProgress(report: Extract<JobReport, { kind: "progress" }>): void {
    const job = this.#jobs.get(report.jobId);
    if (!job || isOver(job) || job.plan?.generation !== report.generation) return;
    this.#progress.record(report);
    this.#context.changed();
  }

  #view(job: JobRecord): JobView {
    return jobView(job, { progress: this.#progress.newest(job.id), wait: this.#queue.wait(job.id) });
  }

  #get(jobId: string): JobRecord {
    const job = this.#jobs.get(jobId);
    if (!job) throw new RingfoldError("NOT_FOUND", `there is no job ${jobId}`, { jobId });
    return job;
  }
}
