import { execFile } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { probeEngine } from "../../agent/engine/probe.ts";
import { findGpus, machineSources, queryNvidia } from "../../agent/membership/gpus.ts";
import { readChosenPython } from "../../agent/torch/chosen-python.ts";
import { toRingfoldError } from "../../protocol/errors.ts";
import type { Gpu } from "../../protocol/messages/membership.ts";
import { systemClock } from "../../protocol/ports.ts";
import { sizeText } from "../../protocol/size.ts";
import { type Check, type Finding, fail, info, ok, warn } from "./finding.ts";

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

/** What this machine computes with: drivers, libraries, and each engine with its self-test in a process of its own. */
export function computeChecks(options: ComputeOptions): Check[] {
  return [
    { name: "nvidia driver", look: lookAtNvidia },
    { name: "gpu memory", look: lookAtGpus },
    { name: "cuda", look: (signal) => lookAtLibraries(cudaLibraries, signal) },
    { name: "vulkan", look: (signal) => lookAtVulkan(signal) },
    ...engines.map(
      (name): Check => ({ name: `engine ${name}`, look: (signal) => lookAtEngine(name, signal) }),
    ),
    { name: "engine torch", look: (signal) => lookAtTorch(options, signal) },
  ];
}

/** What libtensorflow 2.9 asks for. */
const cudaLibraries = ["libcuda.so.1", "libcudart.so.11.0", "libcudnn.so.8"];

async function lookAtNvidia(signal: AbortSignal): Promise<Finding> {
  if (!existsSync("/proc/driver/nvidia/version")) return info("none, which is right where no NVIDIA GPU is");
  const driver =
    /Kernel Module\s+(\S+)/.exec(readFileSync("/proc/driver/nvidia/version", "utf8"))?.[1] ?? "unknown";
  try {
    return ok(`driver ${driver}: ${gpuNames(await queryNvidia(machineSources(), signal))}`);
  } catch (cause) {
    const reason =
      (cause as NodeJS.ErrnoException).code === "ENOENT" ? "there is no nvidia-smi" : "nvidia-smi fails";
    return warn(
      `driver ${driver}, but ${reason}`,
      "Install the driver's user-space part of the same release.",
    );
  }
}

/** What the agent here will say of its GPUs. */
async function lookAtGpus(signal: AbortSignal): Promise<Finding> {
  const gpus = await findGpus(machineSources(), { clock: systemClock, signal });
  if (gpus.length > 0) return ok(gpuNames(gpus));
  const remedy = "Only jobs that need GPU memory pass by: nvidia-smi or the amdgpu driver tells of it.";
  return info("no driver tells of a GPU", remedy);
}

const gpuNames = (gpus: readonly Gpu[]): string =>
  gpus.map(({ name, memoryBytes }) => `${name} (${memoryText(memoryBytes)})`).join("; ") ||
  "no GPU is visible";

const memoryText = (bytes: number | null): string =>
  bytes === null ? "tells no memory of its own" : sizeText(bytes);

async function loadableLibraries(signal: AbortSignal): Promise<ReadonlySet<string> | undefined> {
  for (const ldconfig of ["/sbin/ldconfig", "/usr/sbin/ldconfig"]) {
    if (!existsSync(ldconfig)) continue;
    const { stdout } = await run(ldconfig, ["-p"], {
      signal,
      timeout: programTimeoutMs,
      maxBuffer: 16 * 1024 ** 2,
    });
    return new Set(stdout.split("\n").map((line) => line.trim().split(" ")[0] ?? ""));
  }
  return undefined;
}

async function lookAtLibraries(names: readonly string[], signal: AbortSignal): Promise<Finding> {
  const present = await loadableLibraries(signal);
  if (!present) return info("no ldconfig on this system, so libraries were not looked for");
  const missing = names.filter((name) => !present.has(name));
  if (missing.length === 0) return ok(names.join(", "));
  return info(`missing: ${missing.join(", ")}`, "Only the tensorflow engine on an NVIDIA GPU needs them.");
}

async function lookAtVulkan(signal: AbortSignal): Promise<Finding> {
  const present = await loadableLibraries(signal);
  const drivers = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"].flatMap((folder) =>
    existsSync(folder) ? readdirSync(folder).filter((file) => file.endsWith(".json")) : [],
  );
  const named = process.env.VK_ICD_FILENAMES;
  const found = [...drivers, ...(named ? named.split(":") : [])];
  const remedy = "Only the webgpu engine needs it: install the GPU's driver, and on Debian libvulkan1.";
  if (!present?.has("libvulkan.so.1")) return info("libvulkan.so.1 is missing", remedy);
  return found.length > 0
    ? ok(`drivers: ${found.join(", ")}`)
    : info("libvulkan.so.1, but no driver for it", remedy);
}

/** Opens it as an agent would, self-test included. wasm comes with Ringfold, so without it something is broken. */
async function lookAtEngine(name: (typeof engines)[number], signal: AbortSignal): Promise<Finding> {
  try {
    const { reason, gflops } = await probeEngine(name, systemClock, signal);
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
