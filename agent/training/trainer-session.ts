import { setImmediate as nextTurn } from "node:timers/promises";
import { RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import { systemClock } from "../../protocol/ports.ts";
import { openArtefactStore } from "../artefact/store.ts";
import { openChunkedDataset } from "../data/chunked-dataset.ts";
import { type Dataset, openDataset } from "../data/dataset.ts";
import { openEngine } from "../engine/engine.ts";
import { type AgentFetch, chunkSource } from "./agent-fetch.ts";
import { Bound } from "./bound.ts";
import { Checkpointer } from "./checkpoints/checkpointer.ts";
import { savingBy } from "./checkpoints/saving.ts";
import { checkpointWriter } from "./checkpoints/writer-thread.ts";
import { adoptWeights, trainedPart } from "./fine-tuning.ts";
import { GenerationRunner, type SessionParts, type TrainerSession } from "./generation-runner.ts";
import { openStateThread } from "./healing/state-thread.ts";
import { checkMemory, forecastMemory } from "./memory-forecast.ts";
import { objectiveOn } from "./objective.ts";
import { openRingHost } from "./ring-host/open-ring-host.ts";
import type { StepReport } from "./trainee.ts";
import { Trainer } from "./trainer.ts";
import type { TrainerSetup } from "./trainer-messages.ts";
import { trainingMemory } from "./training-memory.ts";

/**
 * Opens everything that a trainer works with on this machine, then says `ready`.
 * @throws RingfoldError DATA_INVALID | FILE_NOT_FOUND | JOB_INVALID | MODEL_TOO_LARGE | ENGINE_UNAVAILABLE | STORE_FAILED, and
 *   whatever keeps a thread from starting
 */
export async function openTrainerSession(
  setup: TrainerSetup,
  from: Opener & { readonly onDeath: (error: RingfoldError) => void },
  signal: AbortSignal,
): Promise<TrainerSession> {
  const { send, log } = from;
  const store = openArtefactStore(setup.artefactPath);
  const opened = await openParts(setup, { ...from, store }, signal);
  const { session } = await assembleSession({
    ...{ setup, send, log, store, ...opened },
    fetchArtefact: (digest, abort) => from.agent.fetch(digest, digest, abort),
    clock: systemClock,
    nowMs: () => performance.now(),
    nextTurn: () => nextTurn(),
  });
  session.announce();
  return session;
}

interface Opener extends Pick<SessionParts, "send" | "log"> {
  readonly agent: AgentFetch;
}

/** When one cannot be opened, nothing of the others is left. */
async function openParts(
  setup: TrainerSetup,
  from: Opener & Pick<SessionParts, "store"> & { readonly onDeath: (error: RingfoldError) => void },
  signal: AbortSignal,
) {
  const { artefactPath, jobId, spec, peerId, certificate, listenHost, logLevel } = setup;
  const { transport } = spec;
  const thread = { plane: { peerId, certificate, host: listenHost, transport }, logLevel };
  const compute = await openCompute(setup, from, signal);
  try {
    const { parameterCount } = compute.model.description;
    const host = await openRingHost(thread, { ...from, parameterCount });
    try {
      const isLarge = 4 * parameterCount >= limits.stateThreadBytes;
      if (!isLarge) return { ...compute, host };
      return {
        ...compute,
        host,
        stateThread: await openStateThread(thread),
        checkpointWriter: checkpointWriter({ artefactPath, jobId, ...spec.checkpoint }),
      };
    } catch (cause) {
      await host.close();
      throw cause;
    }
  } catch (cause) {
    compute.closeModel();
    throw cause;
  }
}

async function openCompute(
  setup: TrainerSetup,
  from: Opener & Pick<SessionParts, "store">,
  signal: AbortSignal,
) {
  const { spec } = setup;
  if (spec.engine === "torch" || spec.model.architecture === "script")
    throw new RingfoldError("JOB_INVALID", "the model of a script is the script's");
  const data = await openData(setup, from, signal);
  const prefer = spec.engine === "auto" ? setup.engine : spec.engine;
  const engine = await openEngine({ prefer, log: from.log });
  const model = engine.openModel(spec.model, {
    ...data.shape,
    seed: spec.seed,
    objective: objectiveOn(spec, data),
    accept: (description) => checkMemory(forecastMemory(spec, description), trainingMemory(setup, engine)),
  });
  const closeModel = () => {
    model.close();
    engine.close();
  };
  try {
    if (setup.base) await adoptWeights(model, from.store.get(setup.base), spec);
  } catch (cause) {
    closeModel();
    throw cause;
  }
  return { data, model, closeModel, engineName: engine.name };
}

/** The job's data: this machine's own files, or a registered data set, of which the agent brings what is not here. */
export async function openData(
  { spec }: TrainerSetup,
  { store, agent }: Pick<SessionParts, "store"> & { readonly agent: AgentFetch },
  signal: AbortSignal,
): Promise<Dataset> {
  if (spec.data.source === "script")
    throw new RingfoldError("JOB_INVALID", "the data of a script are the script's");
  if (spec.data.source !== "dataset") return openDataset(spec.data);
  return openChunkedDataset(spec.data, { source: chunkSource(spec.data.digest ?? "", store, agent) }, signal);
}

/** Puts a trainer together from its parts: restored from its newest checkpoint, and ready to heal others. */
export async function assembleSession(
  parts: SessionParts,
): Promise<{ session: TrainerSession; trainer: Trainer }> {
  const { setup, data, store, clock, nowMs, nextTurn } = parts;
  const { jobId, spec } = setup;
  const model = trainedPart(parts.model, spec.freeze);
  const observer: { onStep: (report: StepReport) => Promise<void> } = { onStep: async () => {} };
  const trainer = await Trainer.open({
    ...{ spec, data, model, whole: parts.model, clock, nowMs, nextTurn, bucketRule: parts.bucketRule },
    onStep: (report) => observer.onStep(report),
    onWait: (share) => parts.send({ kind: "loading", jobId, share }),
  });
  const checkpointer = new Checkpointer({ jobId, store, ...spec.checkpoint });
  await checkpointer.restore(trainer);
  if (setup.state) await checkpointer.adopt(trainer, setup.state);
  const bound = new Bound(setup.bound, trainer, spec);
  const { description } = model;
  const facts = { dataDigest: data.digest, model: description };
  const saving = savingBy(checkpointer, parts.checkpointWriter);
  const runner = new GenerationRunner({ ...parts, facts, trainer, saving, bound });
  observer.onStep = (report) => runner.onStep(report);
  return { session: runner, trainer };
}
