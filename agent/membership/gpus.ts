import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import os from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { Gpu } from "../../protocol/messages/membership.ts";
import type { Clock } from "../../protocol/ports.ts";
import { childEnvironment } from "../child-program.ts";
import { openDeadline, untilAborted } from "../deadline.ts";

/** Where a machine tells of its GPUs. */
export interface GpuSources {
  /** @returns what nvidia-smi prints. @throws Error with code ENOENT where there is none, or why it fails */
  readonly nvidiaSmi: (parameters: readonly string[], signal: AbortSignal) => Promise<string>;
  /** Of the kernel's drivers: `cardN/device/mem_info_vram_total` is amdgpu's. */
  readonly drmFolder: string;
  readonly environment: NodeJS.ProcessEnv;
  /** Of a machine whose GPU has no memory of its own; null where that is not so, or not known. */
  readonly unifiedMemory: Gpu | null;
}

/** nvidia-smi without its daemon opens each GPU anew, which takes seconds; with a hung driver it never ends. */
const timeoutMs = 10_000;
const outputBytesMax = 64 * 1024;
/** As many as a hello holds. */
const gpusMax = 16;

const run = promisify(execFile);

/** This machine's. */
export const machineSources = (): GpuSources => ({
  nvidiaSmi: async (parameters, signal) => {
    const options = {
      signal,
      killSignal: "SIGKILL",
      maxBuffer: outputBytesMax,
      env: childEnvironment(),
    } as const;
    const running = run("nvidia-smi", [...parameters], options);
    running.child.unref(); // one that waits in its driver does not even die, and must not keep us
    return (await running).stdout;
  },
  drmFolder: "/sys/class/drm",
  environment: process.env,
  // Apple's chips: the GPU may use what the processor may.
  unifiedMemory:
    process.platform === "darwin" && process.arch === "arm64"
      ? { name: `${os.cpus()[0]?.model ?? "Apple"} GPU`, memoryBytes: os.totalmem() }
      : null,
});

/**
 * The GPUs of a machine that a program started as this one may use, whether or not an engine uses them. A driver that does
 * not answer has none, and one that tells no memory (`[N/A]`) is taken at its word.
 */
export async function findGpus(
  sources: GpuSources,
  { clock, signal }: { readonly clock: Clock; readonly signal: AbortSignal },
): Promise<Gpu[]> {
  const deadline = openDeadline({ timeoutMs, what: "looking for GPUs", parent: signal }, clock);
  try {
    const nvidia = await untilAborted(queryNvidia(sources, deadline.signal), deadline.signal).catch(() => []);
    const amd = await findAmd(sources.drmFolder);
    return [...nvidia, ...amd, ...(sources.unifiedMemory ? [sources.unifiedMemory] : [])].slice(0, gpusMax);
  } finally {
    deadline.release();
  }
}

/** @throws Error as `nvidiaSmi` */
export async function queryNvidia(
  { nvidiaSmi, environment }: Pick<GpuSources, "nvidiaSmi" | "environment">,
  signal: AbortSignal,
): Promise<Gpu[]> {
  const query = ["--query-gpu=uuid,name,memory.total", "--format=csv,noheader,nounits"];
  const gpus = parseNvidia(await nvidiaSmi(query, signal));
  return visible(gpus, environment.CUDA_VISIBLE_DEVICES).map(({ uuid: _, ...gpu }) => gpu);
}

interface NvidiaGpu extends Gpu {
  readonly uuid: string;
}

/** `GPU-5f2c..., NVIDIA GeForce RTX 3090, 24576`: MiB, although it says nothing of them; `[N/A]` where GPU and processor share memory. */
const parseNvidia = (text: string): NvidiaGpu[] =>
  text.split("\n").flatMap((line): NvidiaGpu[] => {
    const [, uuid, name, mebibytes] = /^(GPU-[0-9a-f-]+), (.+), ([0-9]+|\[.+\])\s*$/.exec(line) ?? [];
    if (uuid === undefined || name === undefined) return [];
    const known = { uuid, name: name.slice(0, 255) };
    const memory = Number(mebibytes);
    if (Number.isNaN(memory)) return [{ ...known, memoryBytes: null }];
    return [{ ...known, memoryBytes: memory * 2 ** 20, isDedicated: true }];
  });

/**
 * Those that CUDA shows, up to the first word that means none. Numbers are taken as nvidia-smi counts.
 * Source: CUDA C++ Programming Guide, "CUDA Environment Variables".
 */
function visible(gpus: readonly NvidiaGpu[], devices: string | undefined): readonly NvidiaGpu[] {
  if (devices === undefined) return gpus;
  const found: NvidiaGpu[] = [];
  for (const device of devices.split(",").map((word) => word.trim())) {
    const gpu = /^[0-9]+$/.test(device)
      ? gpus[Number(device)]
      : gpus.find(({ uuid }) => device.startsWith("GPU-") && uuid.startsWith(device));
    if (!gpu) break;
    found.push(gpu);
  }
  return found;
}

/** Only server cards tell their product's name. */
async function findAmd(drmFolder: string): Promise<Gpu[]> {
  const cards = (await readdir(drmFolder).catch(() => [])).filter((name) => /^card[0-9]+$/.test(name)).sort();
  const gpus: Gpu[] = [];
  for (const card of cards) {
    const read = (file: string) =>
      readFile(join(drmFolder, card, "device", file), "utf8").then(
        (text) => text.trim(),
        () => "",
      );
    const total = await read("mem_info_vram_total");
    if (/^[0-9]{1,15}$/.test(total))
      gpus.push({ name: (await read("product_name")) || "AMD GPU", memoryBytes: Number(total) });
  }
  return gpus;
}
