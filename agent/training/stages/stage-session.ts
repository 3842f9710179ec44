import assert from "node:assert";
import { setImmediate as nextTurn } from "node:timers/promises";
import { RingfoldError } from "../../../protocol/errors.ts";
import { stageCountOf } from "../../../protocol/job-spec.ts";
import type { GenerationPlan } from "../../../protocol/messages/job.ts";
import type { ModelDescription } from "../../../protocol/messages/model.ts";
import { systemClock } from "../../../protocol/ports.ts";
import { type ArtefactStore, openArtefactStore } from "../../artefact/store.ts";
import type { Dataset } from "../../data/dataset.ts";
import { openEngine } from "../../engine/engine.ts";
import type { Engine, OpenStageOptions, StageModel } from "../../engine/port.ts";
import { type DataPlane, openDataPlane } from "../../network/data-plane/data-plane.ts";
import type { AgentFetch } from "../agent-fetch.ts";
import { Bound } from "../bound.ts";
import { readCheckpoint } from "../checkpoints/read-checkpoint.ts";
import { savingInTurn } from "../checkpoints/saving.ts";
import { layWeights, trainedStage } from "../fine-tuning.ts";
import {
  GenerationRunner,
  type RunnerParts,
  type SessionParts,
  type TrainerSession,
} from "../generation-runner.ts";
import { digestState } from "../healing/digest-state.ts";
import type { DigestState } from "../healing/state-source.ts";
import { checkMemory } from "../memory-forecast.ts";
import { objectiveOn } from "../objective.ts";
import type { StepReport } from "../trainee.ts";
import type { TrainerSetup } from "../trainer-messages.ts";
import { openData } from "../trainer-session.ts";
import { trainingMemory } from "../training-memory.ts";
import { StageCheckpointer } from "./stage-checkpointer.ts";
import { cutIntoStages, forecastStage } from "./stage-cut.ts";
import { StageHost } from "./stage-host.ts";
import { StageTrainer } from "./stage-trainer.ts";

interface Opener extends Pick<SessionParts, "send" | "log"> {
  readonly agent: AgentFetch;
}

/**
 * Opens what trains one stage of a model on this machine, then says `ready`. Only the weights of this stage are made.
 * @throws RingfoldError as `openTrainerSession`
 */
export async function openStageSession(
  setup: TrainerSetup,
  { send, log, agent }: Opener,
  signal: AbortSignal,
): Promise<TrainerSession> {
  const { spec } = setup;
  const store = openArtefactStore(setup.artefactPath);
  const data = await openData(setup, { agent, store }, signal);
  if (spec.engine === "torch") throw new RingfoldError("JOB_INVALID", "a script does not train by stages");
  const engine = await openEngine({ prefer: spec.engine === "auto" ? setup.engine : spec.engine, log });
  try {
    const model = openStage(setup, { engine, store }, data);
    const plane = await openDataPlane({ ...setup, host: setup.listenHost, transport: spec.transport, log });
    const { session } = await assembleStageSession({
      ...{ setup, send, log, store, data, model, plane, digestState, clock: systemClock },
      ...{ nowMs: () => performance.now(), nextTurn: () => nextTurn() },
      ...{ engineName: engine.name, closeModel: () => engine.close() },
      fetchArtefact: (digest, abort) => agent.fetch(digest, digest, abort),
    });
    session.announce();
    return session;
  } catch (cause) {
    engine.close();
    throw cause;
  }
}

/** What a session of one stage works with; all of it is real here, and all but the outside in the simulator. */
export interface StageSessionParts extends Omit<RunnerParts, "host"> {
  readonly setup: RunnerParts["setup"] & Pick<TrainerSetup, "stage">;
  readonly nextTurn: () => Promise<void>;
  readonly data: Dataset;
  /** With those parameters that are not trained. */
  readonly model: StageModel;
  readonly plane: DataPlane;
  readonly digestState: DigestState;
}

/** Puts a trainer of one stage together from its parts, restored from its newest checkpoint. */
export async function assembleStageSession(
  parts: StageSessionParts,
): Promise<{ session: TrainerSession; trainer: StageTrainer }> {
  const { setup, data, store, plane, clock, nowMs, nextTurn, send } = parts;
  const { spec, jobId, peerId, stage } = setup;
  assert(stage !== undefined);
  const model = trainedStage(parts.model, spec.freeze);
  const observer: { onStep: (report: StepReport) => Promise<void> } = { onStep: async () => {} };
  const trainer = await StageTrainer.open({
    ...{ spec, data, model, whole: parts.model, clock, nowMs, nextTurn },
    onStep: (report) => observer.onStep(report),
    onWait: (share) => send({ kind: "loading", jobId, share }),
  });
  const { checkpoint } = spec;
  const column = () => trainer.column;
  const checkpointer = new StageCheckpointer({ jobId, stage, store, checkpoint, column });
  await checkpointer.restore(trainer);
  const stateOf = async (digest: string | null, signal: AbortSignal) => {
    if (digest === null) return trainer.encodeBeginning();
    return readCheckpoint(digest, parts, signal);
  };
  const host = new StageHost({ peerId, plane, digestState: parts.digestState, clock, nowMs, stateOf });
  const bound = new Bound(setup.bound, trainer, spec);
  const facts = { dataDigest: data.digest, model: model.description, stage };
  const runner = new GenerationRunner({
    ...parts,
    host,
    facts,
    trainer,
    saving: savingInTurn(checkpointer),
    bound,
  });
  observer.onStep = (report) => runner.onStep(report);
  return { session: inStages(runner, host), trainer };
}

/** The runner is told of its stage alone. */
function inStages(runner: GenerationRunner, host: StageHost): TrainerSession {
  return {
    start: (plan: GenerationPlan) => runner.start(host.adopt(plan)),
    quiesce: (generation, checkpoint) => runner.quiesce(generation, checkpoint),
    announce: (newest) => runner.announce(newest),
    close: () => runner.close(),
  };
}

function openStage(
  setup: TrainerSetup,
  { engine, store }: { readonly engine: Engine; readonly store: Pick<ArtefactStore, "get"> },
  data: Dataset,
) {
  const { spec, stage, base } = setup;
  const stages = stageCountOf(spec);
  if (spec.model.architecture === "script" || stages === undefined || stage === undefined)
    throw new RingfoldError("JOB_INVALID", "this job does not train by stages");
  const staged = { ...spec, stages };
  const place = (description: ModelDescription) => {
    const range = cutIntoStages(staged, description)[stage]!;
    checkMemory(forecastStage(staged, description, range), trainingMemory(setup, engine));
    return range;
  };
  // Read anew whenever it is asked for, rarely: it is as large as the whole model.
  const begin: OpenStageOptions["begin"] =
    base === undefined ? undefined : (layouts, into) => layWeights(store.get(base), spec, layouts, into);
  const objective = objectiveOn(spec, data);
  return engine.openStage(spec.model, { ...data.shape, seed: spec.seed, objective, place, begin });
}
