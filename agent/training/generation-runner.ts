import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import type { GenerationPlan } from "../../protocol/messages/job.ts";
import { type Evaluation, type JobReport, withoutTables } from "../../protocol/messages/job-report.ts";
import type { Clock, Log } from "../../protocol/ports.ts";
import type { ArtefactStore } from "../artefact/store.ts";
import type { Dataset } from "../data/dataset.ts";
import type { TrainableModel } from "../engine/port.ts";
import type { RingPort } from "../ring/port.ts";
import type { Bound } from "./bound.ts";
import type { CheckpointAccess } from "./checkpoints/read-checkpoint.ts";
import type { CheckpointSaving } from "./checkpoints/saving.ts";
import type { CheckpointWriter } from "./checkpoints/writer-thread.ts";
import { reportOfFailure } from "./failure-report.ts";
import type { Entry } from "./healing/entry.ts";
import type { StateThread } from "./healing/state-thread.ts";
import { ProgressMeter } from "./progress-meter.ts";
import { type Healing, joinGeneration } from "./rendezvous.ts";
import type { RingHost } from "./ring-host/ring-host.ts";
import type { BucketRule } from "./synchronization/buckets.ts";
import { isEndOfScript, type StepReport, type Trainee } from "./trainee.ts";
import type { TrainerSetup } from "./trainer-messages.ts";

/** One job on one agent: runs the generations that the coordinator plans, one after the other. */
export interface TrainerSession {
  /** Ends a generation that may still run, then starts this one. Returns at once; reports tell the rest. */
  start(plan: GenerationPlan): void;
  /**
   * Ends this generation at its next step boundary: at once while it is still being linked.
   * @param checkpoint writes one there, also when it has ended already
   */
  quiesce(generation: number, checkpoint: boolean): void;
  /**
   * Reports readiness: at once, or when the generation that is under way has ended.
   * @param newest the newest generation that the coordinator has planned: one before it is over, whatever it has come to here
   */
  announce(newest?: number): void;
  close(): Promise<void>;
}

/** What a session works with, whatever trains in it. */
export interface RunnerParts {
  readonly setup: Pick<TrainerSetup, "jobId" | "spec" | "bound" | "state" | "peerId" | "host">;
  readonly send: (report: JobReport) => void;
  readonly log: Log;
  readonly clock: Clock;
  /** Monotonic milliseconds. */
  readonly nowMs: () => number;
  readonly engineName: string;
  readonly host: RingHost;
  readonly store: ArtefactStore;
  readonly fetchArtefact: CheckpointAccess["fetchArtefact"];
  /** Gives a large state away beside the training. */
  readonly stateThread?: StateThread;
  /** Brings a large state to the disk beside the training. */
  readonly checkpointWriter?: CheckpointWriter;
  /** Ends what computes. */
  readonly closeModel: () => void | Promise<void>;
}

/** A session of the TF.js trainer; all of it is real in trainer-session.ts, and all but the outside in the simulator. */
export interface SessionParts extends RunnerParts {
  readonly nextTurn: () => Promise<void>;
  readonly data: Dataset;
  readonly model: TrainableModel;
  readonly bucketRule?: BucketRule;
}

/** Runs the generations of one job on one agent, one after the other; every ending of one is a report. */
export class GenerationRunner implements TrainerSession {
  readonly #parts: ConstructorParameters<typeof GenerationRunner>[0] & { readonly meter: ProgressMeter };
  #current:
    | { readonly plan: GenerationPlan; readonly cancel: AbortController; ended: Promise<void> }
    | undefined;
  /** Set until the first step of a re-formed ring is committed. */
  #resuming = false;
  /** The last update was left out. */
  #skipping = false;
  /** Of the generation that trains: with stages, ranks of all of them. */
  #worldSize = 0;
  #stage: "idle" | "rendezvous" | "training" = "idle";
  /** By whose plan the state came to be; undefined while it is what was found on the disk. */
  #stateOf: number | undefined;
  /** It was asked to say that it is ready while it was not. */
  #announceWhenIdle = false;

  constructor(
    parts: RunnerParts & {
      readonly facts: Pick<Extract<JobReport, { kind: "ready" }>, "dataDigest" | "model" | "stage">;
      readonly trainer: Trainee;
      readonly saving: CheckpointSaving;
      /** Of a trial of a sweep. */
      readonly bound?: Bound;
    },
  ) {
    this.#parts = { ...parts, meter: new ProgressMeter() };
  }

  start(plan: GenerationPlan): void {
    const previous = this.#current;
    if (previous && previous.plan.generation >= plan.generation) return; // a repeated or late command
    previous?.cancel.abort();
    const cancel = new AbortController();
    const ended = (previous?.ended ?? Promise.resolve()).then(() => this.#run(plan, cancel.signal));
    this.#current = { plan, cancel, ended };
  }

  quiesce(generation: number, checkpoint: boolean): void {
    if (this.#current?.plan.generation !== generation) return;
    if (checkpoint) this.#current.ended = this.#current.ended.then(() => this.#saveAtEnd(generation));
    if (this.#stage === "idle") return;
    if (this.#stage === "training") this.#parts.trainer.requestPause();
    else this.#current.cancel.abort(); // no step has begun, so this is a boundary
  }

  announce(newest = 0): void {
    if (this.#current && this.#current.plan.generation < newest) this.#current.cancel.abort();
    this.#announceWhenIdle = this.#stage !== "idle";
    if (this.#announceWhenIdle) return;
    const { setup, send, host, trainer, engineName, facts } = this.#parts;
    send({
      kind: "ready",
      jobId: setup.jobId,
      host: setup.host,
      port: host.port,
      statePort: this.#stateSource.port,
      point: trainer.point(),
      ...facts,
      engine: engineName,
      totalSteps: trainer.totalSteps,
      ...(this.#stateOf === undefined ? {} : { pointOf: this.#stateOf }),
    });
  }

  async close(): Promise<void> {
    const { host, closeModel, store, saving } = this.#parts;
    this.#current?.cancel.abort();
    await this.#current?.ended;
    await saving.close();
    await Promise.all([host.close(), this.#parts.stateThread?.close()]);
    await closeModel();
    await store.close();
  }

  async onStep(step: StepReport): Promise<void> {
    const { setup, send, meter, trainer, saving, nowMs } = this.#parts;
    const plan = this.#current!.plan;
    const at = { jobId: setup.jobId, generation: plan.generation };
    if (this.#resuming) {
      this.#resuming = false;
      if (plan.healsFirst) this.#stateSource.withdraw(); // all have healed
      send({ kind: "resumed", ...at, step: step.step });
    }
    if (step.wantsCheckpoint || saving.isDue(step.step, step.stepCount))
      await this.#saveCheckpoint(plan.generation);
    if (step.fault) this.#parts.log.warn({ ...at, ...step.fault }, "An update was skipped on every rank");
    if (step.fault && !this.#skipping && plan.source === setup.peerId)
      send({ kind: "skipped", ...at, step: step.fault.step, message: step.fault.message });
    this.#skipping = step.fault !== undefined;
    if (step.evaluation) {
      const { isBest: _, step: evaluatedStep, ...evaluation } = step.evaluation;
      if (Number.isFinite(evaluation.loss))
        send({ kind: "evaluated", ...at, step: evaluatedStep, evaluation });
    }
    if (this.#parts.bound?.isNext(step.step)) trainer.requestPause();
    meter.add(step);
    if (plan.source !== setup.peerId || !(meter.isDue(nowMs()) || step.step === trainer.totalSteps)) return;
    send({
      kind: "progress",
      ...at,
      progress: meter.take(nowMs(), { trainer, worldSize: this.#worldSize }),
    });
  }

  get #stateSource(): Pick<RingHost, "port" | "offer" | "withdraw"> {
    return this.#parts.stateThread ?? this.#parts.host;
  }

  /** One generation from rendezvous to its end; every ending is a report, so this never throws. */
  async #run(plan: GenerationPlan, signal: AbortSignal): Promise<void> {
    const { setup, send, log, host, trainer, meter, clock, nowMs } = this.#parts;
    const at = { jobId: setup.jobId, generation: plan.generation };
    this.#stage = "rendezvous";
    // What was begun for this generation, a copying of the state for one, ends with it.
    const generation = new AbortController();
    const onAbort = () => generation.abort(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    if (signal.aborted) onAbort();
    try {
      const onReady = ({ bytes, durationMs }: Healing) => {
        this.#stateOf = plan.generation;
        send({ kind: "started", ...at, healedBytes: bytes, healMs: durationMs });
      };
      const self = {
        ...{ peerId: setup.peerId, host, trainer, clock, nowMs, onReady, checkpoints: this.#parts },
        stateSource: this.#stateSource,
      };
      const { ring, entry } = await joinGeneration(plan, self, generation.signal);
      this.#stage = "training";
      this.#worldSize = ring.worldSize;
      try {
        log.info(
          {
            ...{ ...at, worldSize: ring.worldSize, rank: ring.rank, step: plan.start.step },
            stallBoundMs: trainer.stall.boundMs,
          },
          "Ring formed",
        );
        this.#resuming = plan.generation > 1;
        meter.reset(nowMs());
        if ((await this.#train(ring, generation.signal, entry)) === "paused") {
          const reached = await this.#reachBound(plan, ring, generation.signal);
          send({
            kind: "ended",
            ...at,
            cause: "quiesced",
            stepMs: trainer.stall.stepMs,
            point: trainer.point(),
            suspect: null,
            detail: "",
            ...reached,
          });
          return;
        }
        await this.#finish(plan, ring, generation.signal);
      } finally {
        ring.destroy();
      }
    } catch (cause) {
      this.#reportFailure(plan, toRingfoldError(cause));
    } finally {
      signal.removeEventListener("abort", onAbort);
      generation.abort(new RingfoldError("CANCELLED", "the generation is over"));
      this.#stateSource.withdraw();
      this.#stage = "idle";
      if (this.#announceWhenIdle) this.announce();
    }
  }

  #train(ring: RingPort, signal: AbortSignal, entry: Entry | undefined): Promise<"done" | "paused"> {
    const { trainer, bound } = this.#parts;
    const { step } = trainer.point();
    // Where some heal, a round more than there should be lets them come up.
    if (bound?.isReached(step) && !entry) return Promise.resolve("paused");
    const outcome = trainer.run(ring, signal, entry);
    if (bound?.isNext(entry?.step ?? step)) trainer.requestPause(); // no step before this one asks for it
    return outcome;
  }

  /** At the bound of the job: what the held-out set says there, with the state on disk; elsewhere nothing. */
  async #reachBound(
    { generation }: GenerationPlan,
    ring: RingPort,
    signal: AbortSignal,
  ): Promise<{ evaluation?: Evaluation }> {
    const { trainer, bound } = this.#parts;
    if (!bound?.isReached(trainer.point().step)) return {};
    const evaluation = withoutTables(await trainer.evaluate(ring, signal));
    assertFinite(evaluation);
    await this.#saveCheckpoint(generation);
    await this.#parts.saving.settle();
    return { evaluation };
  }

  async #saveCheckpoint(generation: number): Promise<void> {
    const { setup, send, trainer, saving } = this.#parts;
    const point = trainer.point();
    await saving.save(trainer, { generation, point }, (artefact) =>
      send({ kind: "checkpoint", jobId: setup.jobId, generation, point, artefact }),
    );
  }

  /** The generation is over, and the job is to be paused: what it has come to must outlive this process. */
  async #saveAtEnd(generation: number): Promise<void> {
    const { setup, send, log } = this.#parts;
    try {
      await this.#saveCheckpoint(generation);
      await this.#parts.saving.settle();
    } catch (cause) {
      const { code, message } = toRingfoldError(cause);
      log.error({ err: cause, jobId: setup.jobId }, "No checkpoint could be written");
      send({ kind: "failed", jobId: setup.jobId, code, message, fatal: false });
    }
  }

  async #finish(plan: GenerationPlan, ring: RingPort, signal: AbortSignal): Promise<void> {
    const { setup, send, store, trainer, saving } = this.#parts;
    await saving.settle();
    const settled = await (trainer.settle?.(ring, signal) ?? trainer.evaluate(ring, signal));
    const { evaluation, point, isBest } =
      "evaluation" in settled ? settled : { evaluation: settled, point: trainer.point(), isBest: false };
    assertFinite(evaluation);
    const bytes = await trainer.encodeWeights();
    const weights = await store.put(bytes); // durable on every rank before anyone hears of it
    send({
      kind: "finished",
      jobId: setup.jobId,
      generation: plan.generation,
      point,
      weights,
      weightsBytes: bytes.byteLength,
      evaluation,
      ...(trainer.point().step < trainer.totalSteps ? { stoppedEarly: true } : {}),
      ...(isBest ? { isBest: true } : {}),
    });
  }

  #reportFailure(plan: GenerationPlan, error: RingfoldError): void {
    const { setup, send, log, trainer } = this.#parts;
    const { jobId } = setup;
    const step = trainer.point().step;
    log.warn({ err: error, jobId, generation: plan.generation, step }, "Generation ended");
    if (isEndOfScript(error)) return; // its session has told the coordinator
    send(reportOfFailure(error, { jobId, plan, trainer }));
  }
}

/** A version says how good it is, and what it says goes through JSON. */
function assertFinite({ loss }: Evaluation): void {
  if (!Number.isFinite(loss))
    throw new RingfoldError("NOT_FINITE", "the loss of the held-out set is not finite");
}
