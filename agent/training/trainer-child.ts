import type { ChildProcess } from "node:child_process";
import type { GenerationPlan, JobReport } from "../../protocol/messages/job.ts";
import type { Clock } from "../../protocol/ports.ts";
import { endProgram, forkProgram } from "../child-program.ts";
import type { FromTrainer, ToTrainer, TrainerSetup } from "./trainer-messages.ts";

/** The trainer process of one job, seen from the agent. */
export class TrainerChild {
  readonly #child: ChildProcess;
  readonly #clock: Clock;
  #closing = false;

  constructor(
    setup: TrainerSetup,
    { onReport, clock }: { readonly onReport: (report: JobReport) => void; readonly clock: Clock },
  ) {
    this.#clock = clock;
    this.#child = forkProgram(new URL("./trainer-process.ts", import.meta.url), [], "inherit");
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
