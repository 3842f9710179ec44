import { setImmediate as nextTurn } from "node:timers/promises";
import type { ExampleShape } from "../../../protocol/data-schema.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { GenerationPlan } from "../../../protocol/messages/job.ts";
import type { ModelDescription } from "../../../protocol/messages/model.ts";
import { systemClock } from "../../../protocol/ports.ts";
import { openArtefactStore } from "../../artefact/store.ts";
import { openEngine } from "../../engine/engine.ts";
import type { Engine } from "../../engine/port.ts";
import { openDataPlane } from "../../network/data-plane/data-plane.ts";
import type { AgentFetch } from "../agent-fetch.ts";
import { Bound } from "../bound.ts";
import { GenerationRunner, type SessionParts, type TrainerSession } from "../generation-runner.ts";
import { digestState } from "../healing/digest-state.ts";
import { checkMemory } from "../memory-forecast.ts";
import type { StepReport } from "../trainee.ts";
import type { TrainerSetup } from "../trainer-messages.ts";
import { memoryOf, openData } from "../trainer-session.ts";
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
  const { spec, jobId, peerId, stage } = setup;
  const store = openArtefactStore(setup.artefactPath);
  const data = await openData(setup, { agent, store }, signal);
  if (spec.engine === "torch") throw new RingfoldError("JOB_INVALID", "a script does not train by stages");
  const engine = await openEngine({ prefer: spec.engine === "auto" ? setup.engine : spec.engine, log });
  try {
    const model = openStage(setup, engine, data.shape);
    const plane = await openDataPlane({ ...setup, host: setup.listenHost, transport: spec.transport, log });
    const observer: { onStep: (report: StepReport) => Promise<void> } = { onStep: async () => {} };
    const nowMs = () => performance.now();
    const trainer = await StageTrainer.open({
      ...{ spec, data, model, clock: systemClock, nowMs, nextTurn: () => nextTurn() },
      onStep: (report) => observer.onStep(report),
      onWait: (share) => send({ kind: "loading", jobId, share }),
    });
    const { checkpoint } = spec;
    const column = () => trainer.column;
    const checkpointer = new StageCheckpointer({ jobId, stage: stage!, store, checkpoint, column });
    await checkpointer.restore(trainer);
    const stateOf = async (checkpoint: string | null, abort: AbortSignal) => {
      if (checkpoint === null) return trainer.encodeBeginning();
      if (store.stat(checkpoint) === undefined) await agent.fetch(checkpoint, checkpoint, abort);
      return store.get(checkpoint);
    };
    const host = new StageHost({ peerId, plane, digestState, nowMs, stateOf });
    const bound = new Bound(setup.bound, trainer, spec);
    const runner = new GenerationRunner({
      ...{ setup, send, log, host, store, trainer, checkpointer, bound, nowMs },
      ...{ clock: systemClock, engineName: engine.name, closeModel: () => engine.close() },
      facts: { dataDigest: data.digest, model: model.description, stage: stage! },
    });
    observer.onStep = (report) => runner.onStep(report);
    runner.announce();
    return inStages(runner, host);
  } catch (cause) {
    engine.close();
    throw cause;
  }
}

/** The runner is told of its stage alone. */
function inStages(runner: GenerationRunner, host: StageHost): TrainerSession {
  return {
    start: (plan: GenerationPlan) => runner.start(host.adopt(plan)),
    quiesce: (generation, checkpoint) => runner.quiesce(generation, checkpoint),
    announce: () => runner.announce(),
    close: () => runner.close(),
  };
}

function openStage(setup: TrainerSetup, engine: Engine, shape: ExampleShape) {
  const { spec, stage } = setup;
  if (spec.model.architecture === "script" || spec.stages === undefined || stage === undefined)
    throw new RingfoldError("JOB_INVALID", "this job does not train by stages");
  const staged = { ...spec, stages: spec.stages };
  const place = (description: ModelDescription) => {
    const range = cutIntoStages(staged, description)[stage]!;
    checkMemory(forecastStage(staged, description, range), { ...memoryOf(setup), engine: engine.name });
    return range;
  };
  return engine.openStage(spec.model, { ...shape, seed: spec.seed, place });
}
