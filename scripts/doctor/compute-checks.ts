import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { probeEngine } from "../../agent/engine/probe.ts";
import { readChosenPython } from "../../agent/torch/chosen-python.ts";
import { toRingfoldError } from "../../protocol/errors.ts";
import { systemClock } from "../../protocol/ports.ts";
import { type Check, type Finding, fail, info, ok, warn } from "./finding.ts";
import { type GpuSurroundings, gpuChecks, machineSurroundings } from "./gpu-checks.ts";

const run = promisify(execFile);
const programTimeoutMs = 20_000;

/** In the order in which an agent prefers them. */
const engines = ["tensorflow", "webgpu", "wasm", "cpu"] as const;

export interface ComputeOptions {
  /** The agent's folder. */
  readonly dataPath: string;
  /** The Python that scripts are to run with; the agent's own unless told. */
  readonly python?: string | undefined;
}

/** A test has its own. */
interface ComputeModules {
  readonly gpus?: GpuSurroundings;
  readonly probe?: typeof probeEngine;
}

/** What this machine computes with: drivers, libraries, and each engine with its self-test in a process of its own. */
export function computeChecks(
  options: ComputeOptions,
  { gpus = machineSurroundings(), probe = probeEngine }: ComputeModules = {},
): Check[] {
  return [
    ...gpuChecks(gpus),
    ...engines.map(
      (name): Check => ({ name: `engine ${name}`, look: (signal) => lookAtEngine(name, probe, signal) }),
    ),
    { name: "engine torch", look: (signal) => lookAtTorch(options, signal) },
  ];
}

/** Opens it as an agent would, self-test included. wasm comes with Ringfold, so without it something is broken. */
async function lookAtEngine(
  name: (typeof engines)[number],
  probe: typeof probeEngine,
  signal: AbortSignal,
): Promise<Finding> {
  try {
    const { reason, gflops } = await probe(name, systemClock, signal);
    return ok(`${reason}; ${gflops.toFixed(1)} GFLOP/s`);
  } catch (cause) {
    // The reason alone: the name of the engine stands before it.
    const message = toRingfoldError(cause).message.replace(
      /^no compute engine is usable: \w+ \((.*)\)$/,
      "$1",
    );
    if (name === "wasm" || name === "cpu") {
      return fail(message, "It comes with Ringfold and needs nothing: install Ringfold anew.");
    }
    // It is installed, and wrong or broken: an agent passes it by, and its GPU lies idle.
    if (/self-test failed|engine probe (ended|took)/.test(message))
      return warn(message, "Update the GPU's driver; until then agents take the next engine by themselves.");
    return info(message, "docs/engines.md tells what it needs.");
  }
}

const torchProgram = `import torch
device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no CUDA device"
print("PyTorch", torch.__version__, "on", device)`;

/** Of the Python that scripts run with here. Where none may run it is a mere fact that there is none. */
async function lookAtTorch({ dataPath, python }: ComputeOptions, signal: AbortSignal): Promise<Finding> {
  const ofAgent = await readChosenPython(join(dataPath, "scripts"));
  const wanted = python ?? ofAgent;
  const path = wanted ?? "python3";
  const whose = python === undefined && ofAgent !== undefined ? `${path}, of this machine's agent` : path;
  try {
    const { stdout } = await run(path, ["-c", torchProgram], { signal, timeout: programTimeoutMs });
    return ok(`${stdout.trim()} (${whose})`);
  } catch (cause) {
    const isThere = (cause as NodeJS.ErrnoException).code !== "ENOENT";
    const detail = isThere ? `${whose} cannot import torch` : `there is no ${whose}`;
    if (wanted === undefined)
      return info(detail, `Only jobs with PyTorch programs need it: ${torchInstallation}.`);
    return warn(detail, `${torchInstallation}; or name a Python that has it: ringfold agent --python PATH.`);
  }
}

const torchInstallation = "`apt-get install python3-torch`, or pip install torch";
