import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, test, vi } from "vitest";
import { z } from "zod";
import { RingfoldError } from "../../../protocol/errors.ts";
import { computeChecks } from "../../../scripts/doctor/compute-checks.ts";
import { runChecks } from "../../../scripts/doctor/finding.ts";
import { gpuChecks, machineSurroundings } from "../../../scripts/doctor/gpu-checks.ts";
import { temporaryFolder } from "../../fixtures/temporary-folder.ts";
import { runRingfold } from "../cli/ringfold-process.ts";

/** GPUs, drivers and libraries that are missing or broken, each provoked: what the doctor finds, and what it says to do. */

const reportSchema = z.object({
  findings: z.array(
    z.object({ check: z.string(), verdict: z.string(), detail: z.string(), remedy: z.string() }),
  ),
});

/** A path on which this nvidia-smi comes first. */
function pathWith(nvidiaSmi: string): string {
  const folder = temporaryFolder();
  writeFileSync(join(folder, "nvidia-smi"), `#!/bin/sh\n${nvidiaSmi}\n`, { mode: 0o755 });
  return `${folder}:${process.env.PATH}`;
}

/** What the checks find of this machine with this nvidia-smi. */
async function found(nvidiaSmi: string, env: Record<string, string> = {}) {
  for (const [name, value] of Object.entries({ PATH: pathWith(nvidiaSmi), ...env })) vi.stubEnv(name, value);
  const { signal } = new AbortController();
  const run = { signal, deadlineMs: 20_000, onFinding: () => {} };
  const findings = await runChecks(gpuChecks(machineSurroundings()), run);
  return Object.fromEntries(findings.map(({ check, ...finding }) => [check, finding]));
}
afterEach(() => vi.unstubAllEnvs());

/** The same of `ringfold doctor` as a process. */
async function doctor(nvidiaSmi: string) {
  const { stdout } = await runRingfold(
    ["doctor", "--only", "compute", "--json", "--data", temporaryFolder()],
    {
      env: { PATH: pathWith(nvidiaSmi) },
    },
  );
  const { findings } = reportSchema.parse(JSON.parse(stdout));
  return Object.fromEntries(findings.map(({ check, ...finding }) => [check, finding]));
}

/** As NVIDIA's, for one GPU. */
const gpu = (driver: string) => `case "$1" in
  *driver_version*) echo ${driver} ;;
  *) echo "GPU-5f2c0000-0000-0000-0000-000000000000, NVIDIA GeForce RTX 3090, 24576" ;;
esac`;

describe("the NVIDIA driver", () => {
  test("that is new enough is fine; CUDA's libraries are missing then, and that matters", async () => {
    expect(await doctor(gpu("535.183.01"))).toMatchObject({
      "nvidia driver": {
        verdict: "ok",
        detail: expect.stringContaining("driver 535.183.01: NVIDIA GeForce"),
      },
      "gpu memory": { verdict: "ok" },
      cuda: {
        verdict: "warn",
        detail: expect.stringContaining("libcudart.so.11.0"),
        remedy: expect.stringContaining("LD_LIBRARY_PATH"),
      },
    });
  });

  test.each([
    ["390.157", "too old for CUDA 11 (450.80.02) and CUDA 12 (525.60.13)"],
    ["470.199.02", "too old for CUDA 12 (525.60.13)"],
  ])("%s is too old, and is told which is not", async (driver, detail) => {
    expect((await found(gpu(driver)))["nvidia driver"]).toMatchObject({
      ...{ verdict: "warn", detail: expect.stringContaining(detail) },
      remedy: "Install a driver of 525.60.13 or later.",
    });
  });

  test.each([
    ["NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", "dmesg"],
    ["Failed to initialize NVML: Driver/library version mismatch", "restart the machine"],
    ["", "Run nvidia-smi by hand"],
  ])("whose nvidia-smi fails (%j) is a warning with its words", async (words, remedy) => {
    const all = await found(`echo "${words}"; exit 9`);
    expect(all["nvidia driver"]).toMatchObject({
      ...{ verdict: "warn", detail: expect.stringContaining(`nvidia-smi fails${words === "" ? "" : ": "}`) },
      remedy: expect.stringContaining(remedy),
    });
    expect(all["nvidia driver"]!.detail).toContain(words);
    expect(all.cuda!.verdict).toBe("info"); // no GPU that would need it
  });
});

test("CUDA's libraries are found where LD_LIBRARY_PATH says", async () => {
  const folder = temporaryFolder();
  for (const name of ["libcuda.so.1", "libcudart.so.11.0", "libcudnn.so.8"])
    writeFileSync(join(folder, name), "");
  expect((await found(gpu("535.183.01"), { LD_LIBRARY_PATH: folder })).cuda).toMatchObject({ verdict: "ok" });
});

describe("Vulkan", () => {
  const look = (changes: Partial<ReturnType<typeof machineSurroundings>>) => {
    const check = gpuChecks({ ...machineSurroundings(), environment: {}, ...changes }).find(
      ({ name }) => name === "vulkan",
    )!;
    const { signal } = new AbortController();
    return runChecks([check], { signal, deadlineMs: 20_000, onFinding: () => {} }).then(([found]) => found!);
  };
  const loadable = async () => new Set(["libvulkan.so.1"]);
  const withGpu = { unifiedMemory: { name: "a GPU", memoryBytes: 1e9 } };

  test("whose library is missing is a warning where a GPU is, and a fact where none is", async () => {
    const missing = { loadable: async () => new Set<string>() };
    expect(await look({ ...missing, unifiedMemory: null })).toMatchObject({ verdict: "info" });
    expect(await look({ ...missing, ...withGpu })).toMatchObject({
      ...{
        verdict: "warn",
        detail: "libvulkan.so.1 is missing",
        remedy: expect.stringContaining("libvulkan1"),
      },
    });
  });

  test("without a driver, with one, and with a variable that points nowhere", async () => {
    const folder = temporaryFolder();
    mkdirSync(join(folder, "icd.d"));
    const vulkanFolders = [join(folder, "icd.d")];
    expect(await look({ loadable, vulkanFolders, ...withGpu })).toMatchObject({
      ...{ verdict: "warn", detail: "libvulkan.so.1, but no driver for it" },
    });
    writeFileSync(join(folder, "icd.d", "some_icd.json"), "{}");
    expect(await look({ loadable, vulkanFolders })).toMatchObject({
      verdict: "ok",
      detail: "drivers: some_icd.json",
    });
    const environment = { VK_ICD_FILENAMES: "/none/icd.json" };
    expect(await look({ loadable, vulkanFolders, environment })).toMatchObject({
      ...{ verdict: "warn", detail: "VK_ICD_FILENAMES names /none/icd.json, which is not there" },
      remedy: expect.stringContaining("unset it"),
    });
  });
});

describe("an engine", () => {
  const find = async (name: string, reason: string) => {
    const probe = async () => {
      throw new RingfoldError("ENGINE_UNAVAILABLE", `no compute engine is usable: ${name} (${reason})`);
    };
    const check = computeChecks({ dataPath: "/none" }, { probe }).find(
      (each) => each.name === `engine ${name}`,
    )!;
    const { signal } = new AbortController();
    const run = { signal, deadlineMs: 20_000, onFinding: () => {} };
    return (await runChecks([check], run))[0]!;
  };
  const wrong = "self-test failed: a gradient is off by 0.31 of 1.2";

  test("whose self-test fails is a warning, and a failure where it comes with Ringfold", async () => {
    expect(await find("webgpu", wrong)).toMatchObject({
      ...{ verdict: "warn", detail: wrong, remedy: expect.stringContaining("driver") },
    });
    expect(await find("wasm", wrong)).toMatchObject({
      ...{ verdict: "fail", detail: wrong, remedy: expect.stringContaining("install Ringfold anew") },
    });
  });

  test("that takes its process along is a warning; one that is not installed is a fact", async () => {
    expect(await find("webgpu", "the engine probe ended (SIGSEGV)")).toMatchObject({ verdict: "warn" });
    expect(await find("tensorflow", "@tensorflow/tfjs-node is not installed")).toMatchObject({
      verdict: "info",
    });
  });
});
