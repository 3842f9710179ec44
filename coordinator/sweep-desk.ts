import { RingfoldError, toRingfoldError } from "../protocol/errors.ts";
import type { SweepSummary, SweepView } from "../protocol/messages/sweep.ts";
import type { StoreWrite } from "../protocol/ports.ts";
import { rungsOf } from "../protocol/search.ts";
import { type SweepSpec, trialSpec } from "../protocol/sweep-spec.ts";
import type { CoordinatorContext } from "./context.ts";
import type { Decision } from "./decide/decision.ts";
import { isOver, type JobRecord } from "./decide/job-record.ts";
import {
  decideSweep,
  type RefusedTrial,
  type SweepEffect,
  type SweepEvent,
  type TrialJob,
} from "./decide/sweep.ts";
import { isSweepOver, newSweep, type SweepRecord } from "./decide/sweep-record.ts";
import type { Registration } from "./document-desk.ts";
import type { JobDesk } from "./job-desk.ts";
import { collections } from "./state.ts";
import { summaryOf, viewOf } from "./sweep-view.ts";

/** The shell around `decideSweep`: what it decides is durable before a trial's job hears of it. */
export class SweepDesk {
  readonly #context: CoordinatorContext;
  readonly #jobs: JobDesk;
  readonly #sweeps: Map<string, SweepRecord>;
  /** Ended by an earlier life of this coordinator, which may not have come to stop their jobs. */
  readonly #unsettled: Set<string>;

  constructor(context: CoordinatorContext, jobs: JobDesk) {
    this.#context = context;
    this.#jobs = jobs;
    this.#sweeps = new Map(collections.sweeps.readAll(context.store).map((sweep) => [sweep.id, sweep]));
    this.#unsettled = new Set(this.#sweeps.keys());
  }

  summaries(): SweepSummary[] {
    return [...this.#sweeps.values()].map((sweep) => summaryOf(sweep, this.#views(sweep)));
  }

  /** @throws RingfoldError NOT_FOUND */
  view(sweepId: string): SweepView {
    const sweep = this.#get(sweepId);
    return viewOf(sweep, this.#views(sweep));
  }

  /** Of the record; what its trials' jobs have come to is none of it. @throws RingfoldError NOT_FOUND */
  revision(sweepId: string): string {
    return collections.sweeps.revision(this.#context.store, this.#get(sweepId).id);
  }

  /**
   * @param register its configuration, once it is known that it can be begun
   * @throws RingfoldError NOT_FOUND when there is no version that its trials would begin with
   */
  async submit(spec: SweepSpec, register: () => Promise<Registration>): Promise<SweepView> {
    const { store, clock, versions } = this.#context;
    const base = spec.job.from === undefined ? undefined : versions.named(spec.job.from);
    const config = await register();
    // An alias may move; what its trials begin with does not.
    const from = base ? { from: `${base.manifest.name}@${base.version}` } : {};
    const number = (collections.counters.read(store, "sweep") ?? 0) + 1;
    const job = { ...spec.job, ...from };
    const sweep = {
      ...newSweep(`sweep-${number}`, { ...spec, job }, clock.nowMs()),
      config: config.reference,
    };
    const event = { kind: "sweep-submitted", sweepId: sweep.id } as const;
    const { method, metric } = sweep.search;
    const rungs = rungsOf(sweep.search, sweep.job.epochs, sweep.trials.length).length;
    const steps = rungs === 1 ? "" : ` on ${rungs} rungs`;
    await this.#commit(
      sweep,
      { who: { kind: "operator" }, event },
      [`submitted: ${method} search of ${sweep.trials.length} trials${steps} by ${metric}`],
      [collections.counters.put("sweep", number), ...config.writes],
    );
    config.written();
    await this.#handle(sweep.id, { kind: "tick" });
    return this.view(sweep.id);
  }

  /** @throws RingfoldError NOT_FOUND | CONFLICT */
  async cancel(sweepId: string, reason: string): Promise<SweepView> {
    this.#get(sweepId);
    await this.#handle(sweepId, { kind: "cancel", reason });
    return this.view(sweepId);
  }

  /** Jobs or membership have moved on. */
  async lookAround(): Promise<void> {
    for (const sweep of this.#sweeps.values())
      if (!isSweepOver(sweep) || this.#unsettled.has(sweep.id))
        await this.#context.apart.run(sweep.id, () => this.#handle(sweep.id, { kind: "tick" }));
  }

  records(): Iterable<SweepRecord> {
    return this.#sweeps.values();
  }

  /** Versions of a name that a sweep still needs, by number: what its trials begin with, and what they came to. */
  usedVersions(name: string): Map<number, string> {
    const users = new Map<number, string>();
    const note = (reference: string | null | undefined, why: string) => {
      const [named, version] = reference?.split("@") ?? [];
      if (named === name) users.set(Number(version), why);
    };
    for (const sweep of this.#sweeps.values()) {
      if (isSweepOver(sweep)) continue;
      note(sweep.job.from, `trials of ${sweep.id} begin with it`);
      for (const { version, trial } of this.#jobs.trialsOf(sweep.id))
        note(version, `it is trial ${trial!.number} of ${sweep.id}`);
    }
    return users;
  }

  async #handle(sweepId: string, event: SweepEvent): Promise<void> {
    const before = this.#get(sweepId);
    const { context, jobs } = { context: this.#context, jobs: this.#jobs };
    const world = {
      jobs: new Map(jobs.trialsOf(sweepId).map((job) => [job.trial!.number, trialJob(job)])),
      idleAgents: jobs.idleAgents(before.job),
      nowMs: context.clock.nowMs(),
    };
    const { record, effects, news } = decideSweep(before, event, world);
    const register = effects.find((effect) => effect.kind === "register");
    const version = register && (await this.#versionOf(record, register.version));
    if (version) record.version = `${record.job.name}@${version.record.version}`;
    else if (register) record.reason += `; ${register.version} is not there any more to be registered`;
    const isChanged = JSON.stringify(before) !== JSON.stringify(record);
    if (isChanged) await this.#commit(record, toldOf(sweepId, event), news, version ? [version.write] : []);
    if (version) context.versions.commit(version.record);
    const refused: RefusedTrial[] = [];
    for (const effect of effects) refused.push(...(await this.#act(record, effect)));
    this.#unsettled.delete(sweepId);
    if (refused.length > 0) await this.#handle(sweepId, { kind: "refused", trials: refused });
  }

  /** @returns what cannot be done */
  async #act(sweep: SweepRecord, effect: SweepEffect): Promise<RefusedTrial[]> {
    switch (effect.kind) {
      case "start": {
        const { parameters } = sweep.trials[effect.trial - 1]!;
        const trial = { sweep: sweep.id, number: effect.trial };
        const spec = trialSpec(sweep, effect.trial, parameters);
        try {
          await this.#jobs.submit(spec, { trial, bound: effect.epochs, config: sweep.config });
        } catch (cause) {
          const { rule, code, message } = toRingfoldError(cause);
          if (rule.blame !== "caller" || rule.retryable) throw cause;
          return [{ number: effect.trial, reason: `${code}: ${message}` }];
        }
        return [];
      }
      case "continue":
        await this.#jobs.steerTrial(effect.jobId, { kind: "continue", epochs: effect.epochs });
        return [];
      case "stop":
        await this.#jobs.steerTrial(effect.jobId, { kind: "stop", reason: effect.reason });
        return [];
      case "register":
        return []; // written with the decision
    }
  }

  /** The best trial's version once more, under the name that the sweep was given. */
  #versionOf({ job }: SweepRecord, reference: string) {
    const { versions, registrar } = this.#context;
    const best = versions.find(reference);
    if (!best || best.removedAtMs !== null) return undefined;
    return registrar.prepare({ ...best.manifest, name: job.name }, best.attestation);
  }

  /** Durable before visible. */
  async #commit(
    sweep: SweepRecord,
    told: Pick<Decision, "who" | "event">,
    news: readonly string[],
    extra: readonly StoreWrite[],
  ): Promise<void> {
    const { decisions, changed } = this.#context;
    const subject = `${sweep.id} ${sweep.job.name}`;
    const reason = news.join("; ") || sweep.reason;
    await decisions.commit({ ...told, subject, reason, isNews: news.length > 0 }, [
      collections.sweeps.put(sweep.id, sweep),
      ...extra,
    ]);
    this.#sweeps.set(sweep.id, sweep);
    changed();
  }

  #views(sweep: SweepRecord) {
    return new Map(this.#jobs.trialsOf(sweep.id).map((job) => [job.trial!.number, this.#jobs.view(job.id)]));
  }

  #get(sweepId: string): SweepRecord {
    const sweep = this.#sweeps.get(sweepId);
    if (sweep) return sweep;
    throw new RingfoldError("NOT_FOUND", `there is no sweep ${sweepId}`, {
      sweepId,
      remedy: "List what exists with `ringfold sweeps`.",
    });
  }
}

function toldOf(sweepId: string, { kind }: SweepEvent): Pick<Decision, "who" | "event"> {
  return kind === "cancel"
    ? { who: { kind: "operator" }, event: { kind: "sweep-cancelled", sweepId } }
    : { who: { kind: "coordinator" }, event: { kind: "sweep-looked-at", sweepId } };
}

function trialJob(job: JobRecord): TrialJob {
  const { id: jobId, state, bound, reached, result, version, reason, members } = job;
  const outcome = result ? { step: result.point.step, evaluation: result.evaluation } : reached;
  return {
    ...{ jobId, bound, version, reason, hasMembers: Object.keys(members).length > 0 },
    state: isOver(job) || state === "paused" ? (state as TrialJob["state"]) : "active",
    outcome: state === "succeeded" || state === "paused" ? outcome : null,
  };
}
