import { RingfoldError } from "../../../protocol/errors.ts";
import { openArtefactStore } from "../../artefact/store.ts";
import { openEngine } from "../../engine/engine.ts";
import { modelOf } from "../../models/library.ts";
import type { AgentFetch } from "../agent-fetch.ts";
import type { SessionParts, TrainerSession } from "../generation-runner.ts";
import type { TrainerSetup } from "../trainer-messages.ts";
import { openData } from "../trainer-session.ts";
import { trainingMemory } from "../training-memory.ts";
import { stageSizes } from "./stage-sizes.ts";

/**
 * `stages: auto`, before anybody knows how many: looks at data and model, and says what each stage would take here. The
 * coordinator then asks for a trainer of one of them, in a process of its own.
 * @throws RingfoldError as `openTrainerSession`
 */
export async function openSizingSession(
  setup: TrainerSetup,
  { send, log, agent }: Pick<SessionParts, "send" | "log"> & { readonly agent: AgentFetch },
  signal: AbortSignal,
): Promise<TrainerSession> {
  const { spec, jobId } = setup;
  if (spec.model.architecture === "script")
    throw new RingfoldError("JOB_INVALID", "a script does not train by stages");
  const store = openArtefactStore(setup.artefactPath);
  try {
    const { shape } = await openData(setup, { agent, store }, signal);
    const prefer = spec.engine === "auto" || spec.engine === "torch" ? setup.engine : spec.engine;
    const engine = await openEngine({ prefer, log });
    engine.close();
    const { description } = modelOf(spec.model, shape);
    const sizes = stageSizes(spec, description, trainingMemory(setup, engine));
    const announce = () => send({ kind: "sized", jobId, sizes });
    announce();
    return { start: () => {}, quiesce: () => {}, announce, close: () => store.close() };
  } catch (cause) {
    await store.close();
    throw cause;
  }
}
