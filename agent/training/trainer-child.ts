import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import type { JobSpec } from "../../protocol/job-spec.ts";
import type { GenerationPlan } from "../../protocol/messages/job.ts";
import type { JobReport } from "../../protocol/messages/job-report.ts";
import type { Clock } from "../../protocol/ports.ts";
import { type ChildProgram, endProgram, forkProgram } from "../child-program.ts";
import type { FetchAnswer, FetchRequest, FromTrainer, ToTrainer, TrainerSetup } from "./trainer-messages.ts";

/** Brings a part of a data set into the store that the agent shares with its trainers. @param manifest whose holders have it */
export type FetchPart = (manifest: string, digest: string, signal: AbortSignal) => Promise<void>;

export const forkTrainer = (): ChildProgram =>
  forkProgram(new URL("./trainer-process.ts", import.meta.url), [], "inherit");

/** The trainer process of one job, seen from the agent. */
export class TrainerChild {
  readonly #stage: number | undefined;
  readonly #stages: JobSpec["stages"];
  readonly #child: ChildProgram;
  readonly #clock: Clock;
  #closing = false;
  readonly #closed = new AbortController();

  constructor(
    setup: TrainerSetup,
    modules: {
      readonly onReport: (report: JobReport) => void;
      readonly clock: Clock;
      readonly fork: () => ChildProgram;
      readonly fetchPart: FetchPart;
      /** What must be there before the trainer opens. */
      readonly before?: (signal: AbortSignal) => Promise<unknown>;
    },
  ) {
    const { onReport, clock, fork, before } = modules;
    this.#clock = clock;
    this.#stage = setup.stage;
    this.#stages = setup.spec.stages;
    this.#child = fork();
    this.#child.on("message", (message: FromTrainer | FetchRequest) => {
      if (message.kind === "report") onReport(message.report);
      else void this.#fetch(message, modules.fetchPart);
    });
    this.#child.on("error", () => {}); // a failed fork or send also shows as an exit
    this.#child.once("exit", (code, signal) => {
      this.#closed.abort();
      if (this.#closing) return;
      const message = `the trainer process ended (${signal ?? `exit code ${code}`})`;
      onReport({ kind: "failed", jobId: setup.jobId, code: "TRAINER_DIED", message, fatal: false });
    });
    const begin = () => this.#send({ kind: "setup", setup });
    if (before) {
      before(this.#closed.signal).then(begin, (cause) => {
        if (this.#closing) return;
        const { code, message } = toRingfoldError(cause);
        onReport({ kind: "failed", jobId: setup.jobId, code, message, fatal: false });
      });
    } else begin();
  }

  /** Whether it trains what is asked for: the same part of a model that is cut alike. */
  isFor({ spec, stage }: { readonly spec: JobSpec; readonly stage: number | undefined }): boolean {
    return this.#stage === stage && this.#stages === spec.stages;
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  start(plan: GenerationPlan): void {
    this.#send({ kind: "start", plan });
  }

  quiesce(generation: number, checkpoint: boolean): void {
    this.#send({ kind: "quiesce", generation, checkpoint });
  }

  /** @param newest as that of `TrainerSession.announce` */
  announce(newest?: number): void {
    this.#send({ kind: "announce", ...(newest === undefined ? {} : { newest }) });
  }

  async close(): Promise<void> {
    this.#closing = true;
    this.#closed.abort(new RingfoldError("CANCELLED", "the trainer is not needed any more"));
    await endProgram(this.#child, () => this.#send({ kind: "stop" }), this.#clock);
  }

  async #fetch({ request, manifest, digest }: FetchRequest, fetchPart: FetchPart): Promise<void> {
    try {
      await fetchPart(manifest, digest, this.#closed.signal);
      this.#send({ kind: "fetched", request });
    } catch (cause) {
      const { code, message } = toRingfoldError(cause);
      this.#send({ kind: "fetched", request, failure: { code, message } });
    }
  }

  #send(message: ToTrainer | FetchAnswer): void {
    if (this.#child.connected) this.#child.send(message, () => undefined);
  }
}
