import pino from "pino";
import { toRingfoldError } from "../../protocol/errors.ts";
import type { JobReport } from "../../protocol/messages/job.ts";
import type { FromTrainer, ToTrainer } from "./trainer-messages.ts";
import { openTrainerSession, type TrainerSession } from "./trainer-session.ts";

/**
 * The trainer's own process: the compute engine and the ring live here, so that neither a crash of the one nor the load
 * of the other reaches the agent. It ends when told to, and when its agent is gone.
 */

const send = (report: JobReport): void => {
  const message: FromTrainer = { kind: "report", report };
  if (process.connected) process.send?.(message);
};

let session: Promise<TrainerSession> | undefined;

async function shutDown(): Promise<never> {
  const opened = await session?.catch(() => undefined);
  await opened?.close();
  process.exit(0);
}

process.on("disconnect", () => void shutDown());
// A terminal's Ctrl-C reaches the whole process group; the agent decides when its children end.
process.on("SIGINT", () => {});
process.on("SIGTERM", () => void shutDown());

process.on("message", (message: ToTrainer) => {
  switch (message.kind) {
    case "setup": {
      const { setup } = message;
      const log = pino({ name: "trainer", level: setup.logLevel }, pino.destination(2));
      session = openTrainerSession(setup, { send, log });
      session.catch((cause) => {
        const error = toRingfoldError(cause);
        log.error({ err: error, jobId: setup.jobId }, "The trainer cannot start");
        // A mistake of the job is the same everywhere; anything else is this machine's.
        const fatal = error.rule.blame === "caller";
        send({ kind: "failed", jobId: setup.jobId, code: error.code, message: error.message, fatal });
      });
      return;
    }
    case "start":
      void session?.then((opened) => opened.start(message.plan));
      return;
    case "quiesce":
      void session?.then((opened) => opened.quiesce(message.generation));
      return;
    case "announce":
      void session?.then((opened) => opened.announce());
      return;
    case "stop":
      void shutDown();
      return;
  }
});
