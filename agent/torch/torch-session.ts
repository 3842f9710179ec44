import { createHash } from "node:crypto";
import { RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import type { JobReport } from "../../protocol/messages/job-report.ts";
import { type Log, systemClock } from "../../protocol/ports.ts";
import { openArtefactStore } from "../artefact/store.ts";
import type { AgentFetch } from "../training/agent-fetch.ts";
import { Checkpointer } from "../training/checkpoints/checkpointer.ts";
import { savingBy } from "../training/checkpoints/saving.ts";
import { checkpointWriter } from "../training/checkpoints/writer-thread.ts";
import { GenerationRunner, type TrainerSession } from "../training/generation-runner.ts";
import { openStateThread } from "../training/healing/state-thread.ts";
import { openLocalRingHost } from "../training/ring-host/open-ring-host.ts";
import type { StepReport } from "../training/trainee.ts";
import type { TrainerSetup } from "../training/trainer-messages.ts";
import { ScriptProcess } from "./script-process.ts";
import { TorchTrainer } from "./torch-trainer.ts";

interface TorchSurroundings {
  readonly send: (report: JobReport) => void;
  readonly log: Log;
  readonly agent: AgentFetch;
}

/**
 * Starts a job's script and everything around it on this machine, then says `ready`.
 * @throws RingfoldError SCRIPT_REFUSED | SCRIPT_FAILED | SCRIPT_SILENT | ENGINE_UNAVAILABLE | STORE_FAILED
 */
export async function openTorchSession(
  setup: TrainerSetup,
  { send, log, agent }: TorchSurroundings,
  signal: AbortSignal,
): Promise<TrainerSession> {
  const { spec, jobId, artefactPath } = setup;
  const source = allowedScript(setup);
  const nowMs = () => performance.now();
  const script = await ScriptProcess.start({
    ...{ jobId, script: source, seed: spec.seed, clock: systemClock, log },
    python: source.python ?? setup.torch!.python,
    folder: setup.torch!.folder,
  });
  const observer: { onStep: (report: StepReport) => Promise<void> } = { onStep: async () => {} };
  const undo: (() => Promise<void> | void)[] = [() => script.close()];
  const onAbort = () => void script.close();
  signal.addEventListener("abort", onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    const trainer = await TorchTrainer.open({
      ...{ spec, script, nowMs },
      nextWanted: (step) => nextWanted(setup, step),
      onStep: (report) => observer.onStep(report),
    });
    undo.push(() => trainer.close());
    const store = openArtefactStore(artefactPath);
    undo.push(() => store.close());
    // The script computes in a process of its own, so the ring has this thread for itself.
    const host = await openLocalRingHost(threadOf(setup), log);
    undo.push(() => host.close());
    const checkpointer = new Checkpointer({ jobId, store, ...spec.checkpoint });
    await checkpointer.restore(trainer);
    const stateThread = await stateThreadOf(setup, trainer.parameterCount);
    const runner = new GenerationRunner({
      ...{ setup, send, log, clock: systemClock, nowMs, host, store, trainer },
      saving: savingBy(
        checkpointer,
        stateThread && checkpointWriter({ artefactPath, jobId, ...spec.checkpoint }),
      ),
      ...(stateThread ? { stateThread } : {}),
      fetchArtefact: (digest, abort) => agent.fetch(digest, digest, abort),
      engineName: `torch (${trainer.device})`.slice(0, 64),
      facts: {
        // What all ranks must have in common; the script looks after its data itself.
        dataDigest: createHash("sha256")
          .update(source.digest)
          .update(JSON.stringify(source.args))
          .digest("hex"),
        model: {
          topology: { framework: "torch", script: source.name, digest: source.digest },
          ...{ inputShape: [], outputShape: [], parameterCount: trainer.parameterCount, layers: [] },
        },
      },
      closeModel: async () => trainer.close(),
    });
    observer.onStep = (report) => runner.onStep(report);
    void script.ended.then((error) => {
      if (!error) return;
      const { code, message } = error;
      send({
        kind: "failed",
        jobId,
        code,
        message: message.slice(0, 2_000),
        fatal: code === "SCRIPT_FAILED",
      });
    });
    runner.announce();
    return {
      start: (plan) => {
        trainer.generation = plan.generation;
        runner.start(plan);
      },
      quiesce: (generation, checkpoint) => runner.quiesce(generation, checkpoint),
      announce: (newest) => runner.announce(newest),
      close: async () => {
        await script.close(); // first: a generation that waits for a script that computes ends with it
        await runner.close();
      },
    };
  } catch (cause) {
    for (const step of undo.reverse()) await step();
    throw cause;
  }
}

/** @throws RingfoldError SCRIPT_REFUSED where the owner of this agent has not allowed scripts, or it is not the one named */
function allowedScript({ spec, torch }: TrainerSetup) {
  const { script } = spec;
  if (!script) throw new RingfoldError("JOB_INVALID", "engine torch needs a script");
  if (!torch) throw new RingfoldError("SCRIPT_REFUSED", "this agent does not run scripts");
  const digest = createHash("sha256").update(script.source).digest("hex");
  if (digest === script.digest) return script;
  throw new RingfoldError("SCRIPT_REFUSED", `${script.name} has the digest ${digest}, not ${script.digest}`);
}

/** The first step after `step` with a checkpoint; where the job has a bound each may be the last one. */
function nextWanted({ spec, bound }: TrainerSetup, step: number): number {
  const { everySteps } = spec.checkpoint;
  return bound === undefined ? everySteps * (Math.floor(step / everySteps) + 1) : 0;
}

function stateThreadOf(setup: TrainerSetup, parameterCount: number) {
  if (4 * parameterCount < limits.stateThreadBytes) return undefined;
  return openStateThread(threadOf(setup));
}

function threadOf({ peerId, certificate, listenHost, spec, logLevel }: TrainerSetup) {
  return { plane: { peerId, certificate, host: listenHost, transport: spec.transport }, logLevel };
}
