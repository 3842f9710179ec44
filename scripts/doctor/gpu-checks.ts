import { execFile } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { findGpus, type GpuSources, machineSources, queryNvidia } from "../../agent/membership/gpus.ts";
import type { Gpu } from "../../protocol/messages/membership.ts";
import { systemClock } from "../../protocol/ports.ts";
import { sizeText } from "../../protocol/size.ts";
import { type Check, type Finding, info, ok, warn } from "./finding.ts";

/** Where a machine tells of its GPUs, their drivers and libraries. */
export interface GpuSurroundings extends GpuSources {
  /** What the kernel's NVIDIA module says of itself; not there without it. */
  readonly nvidiaModulePath: string;
  /** Names that the dynamic linker finds; undefined where that cannot be told. */
  readonly loadable: (signal: AbortSignal) => Promise<ReadonlySet<string> | undefined>;
  /** Where Vulkan's loader looks for drivers unless it is told. */
  readonly vulkanFolders: readonly string[];
}

const run = promisify(execFile);
const programTimeoutMs = 20_000;

export const machineSurroundings = (): GpuSurroundings => ({
  ...machineSources(),
  nvidiaModulePath: "/proc/driver/nvidia/version",
  loadable: loadableLibraries,
  vulkanFolders: ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"],
});

export const gpuChecks = (surroundings: GpuSurroundings): Check[] => [
  { name: "nvidia driver", look: (signal) => lookAtNvidia(surroundings, signal) },
  { name: "gpu memory", look: (signal) => lookAtGpus(surroundings, signal) },
  { name: "cuda", look: (signal) => lookAtCuda(surroundings, signal) },
  { name: "vulkan", look: (signal) => lookAtVulkan(surroundings, signal) },
];

/** What libtensorflow 2.9 asks for. */
const cudaLibraries = ["libcuda.so.1", "libcudart.so.11.0", "libcudnn.so.8"];
/**
 * The oldest drivers on Linux for all of CUDA 11, as the tensorflow engine needs, and of CUDA 12, as present PyTorch does.
 * Source: NVIDIA, "CUDA Compatibility", minor version compatibility.
 */
const driverOf = { "CUDA 11": "450.80.02", "CUDA 12": "525.60.13" } as const;

/** Why nvidia-smi gives no answer, and what is done about it; undefined where there is none. */
type Trouble = { readonly detail: string; readonly remedy: string } | undefined;

async function troubleOfNvidia(surroundings: GpuSurroundings, signal: AbortSignal): Promise<Trouble> {
  try {
    await queryNvidia(surroundings, signal);
    return undefined;
  } catch (cause) {
    const {
      code,
      stdout = "",
      stderr = "",
    } = cause as NodeJS.ErrnoException & {
      stdout?: string;
      stderr?: string;
    };
    if (code === "ENOENT")
      return {
        detail: "there is no nvidia-smi",
        remedy: "Install the driver's user-space part of the same release.",
      };
    const said = `${stdout}${stderr}`.trim().split("\n")[0] ?? "";
    const remedy = /version mismatch/i.test(said)
      ? "The kernel still runs an earlier release of the driver: restart the machine."
      : /couldn't communicate|No devices/i.test(said)
        ? "The kernel's part of the driver does not run: install it for this kernel (dkms), and see `dmesg`; Secure Boot refuses what is not signed."
        : "Run nvidia-smi by hand; install the driver anew when it says nothing.";
    return { detail: `nvidia-smi fails${said === "" ? "" : `: ${said.slice(0, 200)}`}`, remedy };
  }
}

async function lookAtNvidia(surroundings: GpuSurroundings, signal: AbortSignal): Promise<Finding> {
  const { nvidiaModulePath, nvidiaSmi } = surroundings;
  const isLoaded = existsSync(nvidiaModulePath);
  const trouble = await troubleOfNvidia(surroundings, signal);
  if (trouble && !isLoaded && trouble.detail === "there is no nvidia-smi")
    return info("none, which is right where no NVIDIA GPU is");
  if (trouble) {
    const module = isLoaded
      ? /Kernel Module\s+(\S+)/.exec(readFileSync(nvidiaModulePath, "utf8"))?.[1]
      : undefined;
    return warn(`driver ${module ?? "unknown"}, but ${trouble.detail}`, trouble.remedy);
  }
  const asked = ["--query-gpu=driver_version", "--format=csv,noheader"];
  const driver = (await nvidiaSmi(asked, signal)).trim().split("\n")[0] ?? "";
  const detail = `driver ${driver}: ${gpuNames(await queryNvidia(surroundings, signal))}`;
  const lacking = Object.entries(driverOf).filter(([, least]) => isOlder(driver, least));
  if (lacking.length === 0) return ok(detail);
  const [newest] = lacking.slice(-1);
  const what = lacking.map(([cuda, least]) => `${cuda} (${least})`).join(" and ");
  return warn(`${detail}; too old for ${what}`, `Install a driver of ${newest![1]} or later.`);
}

/** Releases of a driver, part by part: 470.199.02 is before 525.60.13. */
function isOlder(driver: string, least: string): boolean {
  const [one, other] = [driver, least].map((release) => release.split(".").map(Number));
  for (const [i, part] of other!.entries()) {
    const mine = one![i] ?? 0;
    if (mine !== part) return mine < part;
  }
  return false;
}

/** What the agent here will say of its GPUs. */
async function lookAtGpus(surroundings: GpuSurroundings, signal: AbortSignal): Promise<Finding> {
  const gpus = await findGpus(surroundings, { clock: systemClock, signal });
  if (gpus.length > 0) return ok(gpuNames(gpus));
  const remedy = "Only jobs that need GPU memory pass by: nvidia-smi or the amdgpu driver tells of it.";
  return info("no driver tells of a GPU", remedy);
}

const gpuNames = (gpus: readonly Gpu[]): string =>
  gpus.map(({ name, memoryBytes }) => `${name} (${memoryText(memoryBytes)})`).join("; ") ||
  "no GPU is visible";

const memoryText = (bytes: number | null): string =>
  bytes === null ? "tells no memory of its own" : sizeText(bytes);

/** Without an NVIDIA GPU it is no fault that they are missing. */
async function lookAtCuda(surroundings: GpuSurroundings, signal: AbortSignal): Promise<Finding> {
  const present = await surroundings.loadable(signal);
  if (!present) return info("no ldconfig on this system, so libraries were not looked for");
  const named = (surroundings.environment.LD_LIBRARY_PATH ?? "").split(":").filter((folder) => folder !== "");
  const isThere = (name: string) =>
    present.has(name) || named.some((folder) => existsSync(join(folder, name)));
  const missing = cudaLibraries.filter((name) => !isThere(name));
  if (missing.length === 0) return ok(cudaLibraries.join(", "));
  const detail = `missing: ${missing.join(", ")}`;
  const gpus = await queryNvidia(surroundings, signal).catch(() => []);
  if (gpus.length === 0) return info(detail, "Only the tensorflow engine on an NVIDIA GPU needs them.");
  return warn(
    detail,
    "The tensorflow engine cannot use the NVIDIA GPU: install CUDA 11 and cuDNN 8 and name their folder in LD_LIBRARY_PATH; webgpu needs neither.",
  );
}

async function lookAtVulkan(surroundings: GpuSurroundings, signal: AbortSignal): Promise<Finding> {
  const { environment, vulkanFolders } = surroundings;
  const present = await surroundings.loadable(signal);
  const remedy = "Only the webgpu engine needs it: install the GPU's driver, and on Debian libvulkan1.";
  const gpus = await findGpus(surroundings, { clock: systemClock, signal });
  // Where there is a GPU, it lies idle without it.
  const lacking = (detail: string) => (gpus.length > 0 ? warn(detail, remedy) : info(detail, remedy));
  if (!present?.has("libvulkan.so.1")) return lacking("libvulkan.so.1 is missing");
  // The loader then looks at these alone.
  const variable = ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"].find((name) => environment[name]);
  if (variable !== undefined) {
    const named = environment[variable]!.split(":");
    const gone = named.filter((path) => !existsSync(path));
    if (gone.length === 0) return ok(`drivers: ${named.join(", ")} (${variable})`);
    return warn(
      `${variable} names ${gone.join(", ")}, which ${gone.length === 1 ? "is" : "are"} not there`,
      `Correct ${variable}, or unset it: Vulkan's loader looks nowhere else while it is set.`,
    );
  }
  const drivers = vulkanFolders.flatMap((folder) =>
    existsSync(folder) ? readdirSync(folder).filter((file) => file.endsWith(".json")) : [],
  );
  return drivers.length > 0
    ? ok(`drivers: ${drivers.join(", ")}`)
    : lacking("libvulkan.so.1, but no driver for it");
}

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
