import type { Signer } from "../../protocol/attestation.ts";
import { prepareJob, quiesceJob, startGeneration, stopJob } from "../../protocol/messages/job.ts";
import { type JobReport, reportJob } from "../../protocol/messages/job-report.ts";
import type { Clock, ClusterNetwork, Log } from "../../protocol/ports.ts";
import type { ArtefactStore } from "../artefact/store.ts";
import type { ChildProgram } from "../child-program.ts";
import type { TermFence } from "../membership/term-fence.ts";
import { heldCheckpoints, jobsHeld } from "./checkpoints/held-checkpoints.ts";
import { ReportOutbox } from "./report-outbox.ts";
import { ResultSigner } from "./result-signer.ts";
import { type FetchPart, TrainerChild } from "./trainer-child.ts";
import type { TrainerSetup } from "./trainer-messages.ts";

export interface JobRunnerModules {
  readonly network: ClusterNetwork;
  readonly fence: TermFence;
  readonly coordinatorPeerId: string;
  /** Of this life of the agent. */
  readonly incarnation: string;
  /** What lies on this agent's disk. */
  readonly store: Pick<ArtefactStore, "names" | "stat">;
  /** What every trainer of this agent shares. */
  readonly setup: Omit<TrainerSetup, "jobId" | "spec" | "host">;
  /** The address of this machine that other trainers dial now. */
  readonly host: () => string;
  /** Into this agent's store, from `holders`, or from whoever says that it has it. */
  readonly fetchArtefact: (
    digest: string,
    signal: AbortSignal,
    holders?: readonly string[],
  ) => Promise<Uint8Array>;
  readonly log: Log;
  readonly clock: Clock;
  /** Starts a trainer process. */
  readonly fork: () => ChildProgram;
  readonly fetchPart: FetchPart;
  /** With the agent's identity. */
  readonly signer: Signer;
}

/**
 * An agent's side of jobs: obeys the coordinator's four commands and reports back. It decides nothing. Commands may be
 * repeated and may come late; each is safe to obey twice.
 */
export class JobRunner {
  readonly #modules: JobRunnerModules;
  readonly #trainers = new Map<string, TrainerChild>();
  readonly #outbox: ReportOutbox;

  constructor(modules: JobRunnerModules) {
    this.#modules = modules;
    const { network, coordinatorPeerId, clock, log } = modules;
    this.#outbox = new ReportOutbox({
      send: async (report, sequence) => {
        const origin = { life: modules.incarnation, sequence };
        await network.request(coordinatorPeerId, reportJob, { report, origin });
      },
      clock,
      log,
    });
    modules.fence.onNewTerm(() => this.coordinatorReturned());
    this.#listen();
  }

  /** The coordinator is back: what waits for it goes now, and it hears of every checkpoint here, then of every idle trainer. */
  coordinatorReturned(): void {
    this.#outbox.retryNow();
    for (const jobId of jobsHeld(this.#modules.store)) this.#outbox.push(this.#held({ kind: "held", jobId }));
    for (const trainer of this.#trainers.values()) trainer.announce();
  }

  isTraining(jobId: string): boolean {
    return this.#trainers.has(jobId);
  }

  trainerPids(): number[] {
    return [...this.#trainers.values()].flatMap(({ pid }) => (pid === undefined ? [] : [pid]));
  }

  /** Whether this agent works for that job, or is about to. */
  runs(jobId: string): boolean {
    return this.#trainers.has(jobId);
  }

  async close(): Promise<void> {
    this.#outbox.close();
    await Promise.all([...this.#trainers.keys()].map((jobId) => this.#end(jobId)));
  }

  #listen(): void {
    const { network, fence, log } = this.#modules;
    network.handle(
      prepareJob,
      async ({ term, jobId, spec, base, bound, stage, state, generation }, { from }) => {
        fence.check(term, from);
        const present = this.#trainers.get(jobId);
        if (present?.isFor({ spec, stage })) present.announce(generation);
        else {
          await this.#end(jobId); // it trained another part of the model
          log.info({ jobId, name: spec.name }, "Starting a trainer");
          this.#trainers.set(
            jobId,
            this.#startTrainer(
              {
                ...{ ...this.#modules.setup, host: this.#modules.host(), jobId, spec },
                ...(base ? { base } : {}),
                ...(bound === undefined ? {} : { bound }),
                ...(stage === undefined ? {} : { stage }),
                ...(state ? { state } : {}),
              },
              state?.holders,
            ),
          );
        }
        return { ok: true };
      },
    );
    network.handle(startGeneration, async ({ term, plan }, { from }) => {
      fence.check(term, from);
      this.#trainers.get(plan.jobId)?.start(plan);
      return { ok: true };
    });
    network.handle(quiesceJob, async ({ term, jobId, generation, checkpoint = false }, { from }) => {
      fence.check(term, from);
      this.#trainers.get(jobId)?.quiesce(generation, checkpoint);
      return { ok: true };
    });
    network.handle(stopJob, async ({ term, jobId, reason }, { from }) => {
      fence.check(term, from);
      if (this.#trainers.has(jobId)) log.info({ jobId, reason }, "Ending a trainer");
      this.#outbox.forget(jobId);
      await this.#end(jobId);
      // Whoever waits for a majority may count on it: nothing of this job runs here any more.
      if (!this.#trainers.has(jobId))
        this.#outbox.push({ kind: "failed", jobId, code: "CANCELLED", message: reason, fatal: false });
      return { ok: true };
    });
  }

  #startTrainer(setup: TrainerSetup, stateHolders?: readonly string[]): TrainerChild {
    const { base, state } = setup;
    const { fetchArtefact } = this.#modules;
    const fetchAll = async (signal: AbortSignal) => {
      if (base) await fetchArtefact(base, signal);
      if (state) await fetchArtefact(state.digest, signal, stateHolders);
    };
    const results = new ResultSigner(setup.spec, this.#modules.signer);
    const trainer: TrainerChild = new TrainerChild(setup, {
      clock: this.#modules.clock,
      fork: this.#modules.fork,
      fetchPart: this.#modules.fetchPart,
      ...(base || state ? { before: fetchAll } : {}),
      onReport: (report) => void this.#onReport(trainer, results, report),
    });
    return trainer;
  }

  async #onReport(trainer: TrainerChild, results: ResultSigner, report: JobReport): Promise<void> {
    if (this.#trainers.get(report.jobId) !== trainer) return; // the last words of a trainer that was replaced
    if (report.kind === "failed") void this.#end(report.jobId);
    if (report.kind === "ready") results.hear(report);
    if (report.kind === "finished") this.#outbox.push(await results.signed(report));
    else this.#outbox.push(changesDisk.has(report.kind) ? this.#held(report) : report);
  }

  /** With all that lies here of that job: what the coordinator has not heard of must not be lost with whoever has written it. */
  #held<Report extends Partial<JobReport> & { readonly jobId: string }>(report: Report) {
    return { ...report, held: heldCheckpoints(this.#modules.store, report.jobId) };
  }

  async #end(jobId: string): Promise<void> {
    const trainer = this.#trainers.get(jobId);
    this.#trainers.delete(jobId);
    await trainer?.close();
  }
}

/** Before these a trainer may have written checkpoints, its own or a neighbour's. */
const changesDisk: ReadonlySet<JobReport["kind"]> = new Set(["ready", "checkpoint", "ended"]);
