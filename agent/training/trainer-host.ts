import { RingfoldError, toRingfoldError } from "../../protocol/errors.ts";
import type { JobReport } from "../../protocol/messages/job-report.ts";
import type { Log } from "../../protocol/ports.ts";
import type { TrainerSession } from "./generation-runner.ts";
import type { ToTrainer, TrainerSetup } from "./trainer-messages.ts";

export interface TrainerHostModules {
  readonly send: (report: JobReport) => void;
  /** @param signal aborts when the trainer is to end before it is open */
  readonly open: (setup: TrainerSetup, signal: AbortSignal) => Promise<TrainerSession>;
  readonly logFor: (setup: TrainerSetup) => Log;
  /** Ends the process. */
  readonly exit: () => void;
}

/** The inside of a trainer process: takes the agent's messages in order, and ends when told to. */
export class TrainerHost {
  readonly #modules: TrainerHostModules;
  /** Undefined once it could not be opened: the agent has been told. */
  #session: Promise<TrainerSession | undefined> = Promise.resolve(undefined);

  readonly #opening = new AbortController();

  constructor(modules: TrainerHostModules) {
    this.#modules = modules;
  }

  receive(message: ToTrainer): void {
    switch (message.kind) {
      case "setup":
        this.#session = this.#open(message.setup);
        return;
      case "start":
        void this.#session.then((session) => session?.start(message.plan));
        return;
      case "quiesce":
        void this.#session.then((session) => session?.quiesce(message.generation, message.checkpoint));
        return;
      case "announce":
        void this.#session.then((session) => session?.announce(message.newest));
        return;
      case "stop":
        void this.shutDown();
        return;
    }
  }

  async shutDown(): Promise<void> {
    this.#opening.abort(new RingfoldError("CANCELLED", "the trainer was asked to end"));
    const session = await this.#session;
    await session?.close();
    this.#modules.exit();
  }

  async #open(setup: TrainerSetup): Promise<TrainerSession | undefined> {
    const { open, send, logFor } = this.#modules;
    try {
      return await open(setup, this.#opening.signal);
    } catch (cause) {
      const error = toRingfoldError(cause);
      logFor(setup).error({ err: error, jobId: setup.jobId }, "The trainer cannot start");
      // A mistake of the job is the same everywhere; anything else is this machine's.
      const fatal = error.rule.blame === "caller";
      send({ kind: "failed", jobId: setup.jobId, code: error.code, message: error.message, fatal });
      return undefined;
    }
  }
}
