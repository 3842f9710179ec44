import { flushCompileCache } from "node:module";
import pino from "pino";
import type { RingfoldError } from "../../protocol/errors.ts";
import type { Log } from "../../protocol/ports.ts";
import { openTorchSession } from "../torch/torch-session.ts";
import { AgentFetch } from "./agent-fetch.ts";
import { openSizingSession } from "./stages/sizing-session.ts";
import { openStageSession } from "./stages/stage-session.ts";
import { TrainerHost } from "./trainer-host.ts";
import type { FetchAnswer, FromTrainer, ToTrainer, TrainerSetup } from "./trainer-messages.ts";
import { openTrainerSession } from "./trainer-session.ts";

/**
 * The trainer's own process: the compute engine and the ring live here, so that neither a crash of the one nor the load
 * of the other reaches the agent. It ends when told to, and when its agent is gone.
 */

/** An agent that dies meanwhile is heard of by `disconnect`; without a callback the failure would be an uncaught one. */
const tell = (message: object): void => {
  if (process.connected) process.send?.(message, undefined, undefined, () => {});
};
const send = (report: FromTrainer["report"]): void => tell({ kind: "report", report } satisfies FromTrainer);
const logFor = (setup: TrainerSetup): Log =>
  pino({ name: "trainer", level: setup.logLevel }, pino.destination(2));

function openerOf({ spec, stage }: TrainerSetup) {
  if (spec.engine === "torch") return openTorchSession;
  if (spec.stages === "auto") return openSizingSession;
  return stage === undefined ? openTrainerSession : openStageSession;
}

const agent = new AgentFetch(tell);
const host = new TrainerHost({
  send,
  logFor,
  open: async (setup, signal) => {
    const log = logFor(setup);
    const onDeath = (error: RingfoldError) => {
      log.error({ err: error, jobId: setup.jobId }, "This trainer cannot go on");
      process.exit(error.rule.exit); // the agent notices, says so and may start another
    };
    const open = openerOf(setup);
    const session = await open(setup, { send, log, agent, onDeath }, signal);
    flushCompileCache(); // the process may be killed; what it has compiled serves the next one
    return session;
  },
  exit: () => process.exit(0),
});

process.on("disconnect", () => void host.shutDown());
// A terminal's Ctrl-C reaches the whole process group; the agent decides when its children end.
process.on("SIGINT", () => {});
process.on("SIGTERM", () => void host.shutDown());
process.on("message", (message: ToTrainer | FetchAnswer) => {
  if (message.kind === "fetched") agent.answered(message);
  else host.receive(message);
});
