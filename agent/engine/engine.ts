import { RingfoldError } from "../../protocol/errors.ts";
import type { EngineName } from "../../protocol/job-spec.ts";
import type { Log } from "../../protocol/ports.ts";
import { modelOf } from "../models/library.ts";
import { openCpu } from "./cpu.ts";
import { measureGflops } from "./gflops.ts";
import { openTrainableModel } from "./model.ts";
import { firstLine } from "./optional-package.ts";
import { outOfMemory } from "./out-of-memory.ts";
import type { Engine, EngineCandidate } from "./port.ts";
import type { Runtime } from "./runtime.ts";
import { selfTest } from "./self-test.ts";
import { openModelShard } from "./shard.ts";
import { openStageModel } from "./stage-model.ts";
import { openTensorflow } from "./tensorflow.ts";
import { openWasm } from "./wasm.ts";
import { openWebgpu } from "./webgpu.ts";

/** Fastest first. */
const names = ["tensorflow", "webgpu", "wasm", "cpu"] as const;

/**
 * Opens the best compute engine of this machine, or the one asked for. An engine is used only after small gradients came
 * out as on the cpu engine.
 *
 * TF.js has one current backend a process: several engines may be open, and each makes its own backend the current one
 * before it computes.
 *
 * @throws RingfoldError ENGINE_UNAVAILABLE with the reasons, when none works or the one asked for does not
 * Cost: 0.2-0.5 s, most of it loading TF.js.
 */
export async function openEngine({
  prefer,
  log,
}: {
  readonly prefer: EngineName;
  readonly log?: Log;
}): Promise<Engine> {
  const candidates: EngineCandidate[] = [];
  let chosen: Runtime | undefined;
  for (const name of prefer === "auto" ? names : [prefer]) {
    if (chosen) {
      candidates.push({ name, usable: false, reason: `not tried, as ${chosen.name} comes first` });
      continue;
    }
    try {
      chosen = await open(name, prefer);
      candidates.push({ name, usable: true, reason: chosen.detail });
    } catch (cause) {
      candidates.push({ name, usable: false, reason: firstLine(cause) });
    }
  }
  if (!chosen) {
    const reasons = candidates.map(({ name, reason }) => `${name} (${reason})`);
    const message = `no compute engine is usable: ${reasons.join(", ")}`;
    throw new RingfoldError("ENGINE_UNAVAILABLE", message, { prefer, reasons });
  }
  const reason = explain(chosen, prefer, candidates);
  log?.info({ engine: chosen.name, gpu: chosen.gpu, candidates }, reason);
  return engineOn(chosen, reason, candidates);
}

async function open(name: Engine["name"], prefer: EngineName): Promise<Runtime> {
  const openers = {
    tensorflow: () => openTensorflow({ allowCpu: prefer === "tensorflow" }),
    webgpu: () => openWebgpu({ allowSoftware: prefer === "webgpu" }),
    wasm: () => openWasm(),
    cpu: openCpu,
  };
  const runtime = await openers[name]();
  await selfTest(runtime);
  return runtime;
}

function explain(chosen: Runtime, prefer: EngineName, candidates: readonly EngineCandidate[]): string {
  if (prefer !== "auto") return `${chosen.name} as asked: ${chosen.detail}`;
  const refused = candidates.slice(
    0,
    candidates.findIndex(({ usable }) => usable),
  );
  const why = refused.map(({ name, reason }) => `${name} is not usable (${reason})`);
  return [`${chosen.name}: ${chosen.detail}`, ...why].join("; ");
}

function engineOn(runtime: Runtime, reason: string, candidates: readonly EngineCandidate[]): Engine {
  const opened = new Set<{ close(): void }>();
  /** Closing the engine closes what it opened; closing a part forgets it. */
  const own = <Part extends { close(): void }>(part: Part): Part => {
    const closePart = part.close.bind(part);
    part.close = () => {
      opened.delete(part);
      closePart();
    };
    opened.add(part);
    return part;
  };
  return {
    name: runtime.name,
    reason,
    candidates,
    gpu: runtime.gpu,
    openModel(spec, { seed, accept, objective, ...shape }) {
      const model = modelOf(spec, shape);
      accept?.(model.description);
      const opened = openTrainableModel(runtime, model, seed, objective);
      return own(namingMemory(opened, ["gradient", "evaluate"]));
    },
    openStage(spec, { seed, place, begin, objective, ...shape }) {
      const model = modelOf(spec, shape);
      const range = place(model.description);
      const stage = openStageModel(runtime, model, { range, seed, begin, objective });
      return own(namingMemory(stage, ["forward", "backward", "gradient", "evaluate"]));
    },
    openShard: (description, layers, weights) => own(openModelShard(runtime, description, layers, weights)),
    measureGflops: () => measureGflops(runtime),
    tensorCount: () => runtime.tf.memory().numTensors,
    close() {
      for (const part of [...opened]) part.close();
    },
  };
}

/** Whatever of these methods fails for want of memory says so. */
function namingMemory<Part extends object>(part: Part, methods: readonly (keyof Part)[]): Part {
  for (const method of methods) {
    const call = (part[method] as (...of: unknown[]) => Promise<unknown>).bind(part);
    const named = (...of: unknown[]) =>
      call(...of).catch((cause: unknown) => {
        throw outOfMemory(cause) ?? cause;
      });
    Object.assign(part, { [method]: named });
  }
  return part;
}
