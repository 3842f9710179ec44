import type { GenerationPlan, JobReport } from "../../protocol/messages/job.ts";
import type { Clock } from "../../protocol/ports.ts";
import { type ChildProgram, endProgram, forkProgram } from "../child-program.ts";
import type { FromTrainer, ToTrainer, TrainerSetup } from "./trainer-messages.ts";

export const forkTrainer = (): ChildProgram =>
  forkProgram(new URL("./trainer-process.ts", import.meta.url), [], "inherit");

/** The trainer process of one job, seen from the agent. */
export class TrainerChild {
  readonly #child: ChildProgram;
  readonly #clock: Clock;
  #closing = false;

  constructor(
    setup: TrainerSetup,
    modules: {
      readonly onReport: (report: JobReport) => void;
      readonly clock: Clock;
      readonly fork: () => ChildProgram;
    },
  ) {
    const { onReport, clock, fork } = modules;
    this.#clock = clock;
    this.#child = fork();
    this.#child.on("message", ({ report }: FromTrainer) => onReport(report));
    this.#child.on("error", () => {}); // a failed fork or send also shows as an exit
    this.#child.once("exit", (code, signal) => {
      if (this.#closing) return;
      const message = `the trainer process ended (${signal ?? `exit code ${code}`})`;
      onReport({ kind: "failed", jobId: setup.jobId, code: "TRAINER_DIED", message, fatal: false });
    });
    this.#send({ kind: "setup", setup });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  start(plan: GenerationPlan): void {
    this.#send({ kind: "start", plan });
  }

  quiesce(generation: number): void {
    this.#send({ kind: "quiesce", generation });
  }

  announce(): void {
    this.#send({ kind: "announce" });
  }

  async close(): Promise<void> {
    this.#closing = true;
    await endProgram(this.#child, () => this.#send({ kind: "stop" }), this.#clock);
  }

  #send(message: ToTrainer): void {
    if (this.#child.connected) this.#child.send(message, () => undefined);
  }
}
