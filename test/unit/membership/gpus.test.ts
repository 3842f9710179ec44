import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { findGpus, type GpuSources, machineSources, queryNvidia } from "../../../agent/membership/gpus.ts";
import { temporaryFolder } from "../../fixtures/temporary-folder.ts";
import { FakeClock } from "../../simulation/fake-clock.ts";

const never = new AbortController().signal;

/** A machine without any; each test adds what it is about. */
const sources = (changes: Partial<GpuSources> = {}): GpuSources => ({
  nvidiaSmi: async () => {
    throw Object.assign(new Error("spawn nvidia-smi ENOENT"), { code: "ENOENT" });
  },
  drmFolder: join(temporaryFolder(), "none"),
  environment: {},
  unifiedMemory: null,
  ...changes,
});
const printing = (text: string): Pick<GpuSources, "nvidiaSmi"> => ({ nvidiaSmi: async () => text });
const find = (changes: Partial<GpuSources>) =>
  findGpus(sources(changes), { clock: new FakeClock(), signal: never });

/** As the driver prints it: `--query-gpu=uuid,name,memory.total --format=csv,noheader,nounits`. */
const uuids = [1, 2, 3].map((number) => `GPU-${`${number}`.repeat(8)}-5b3c-4d1e-9a0f-0123456789ab`);
const workstation = `${uuids[0]}, NVIDIA GeForce RTX 3090, 24576\n${uuids[1]}, NVIDIA GeForce RTX 4060 Ti, 8188\n${uuids[2]}, Tesla V100-SXM2-16GB, 16160\n`;
const [large, small, old] = [
  { name: "NVIDIA GeForce RTX 3090", memoryBytes: 24_576 * 2 ** 20, isDedicated: true },
  { name: "NVIDIA GeForce RTX 4060 Ti", memoryBytes: 8_188 * 2 ** 20, isDedicated: true },
  { name: "Tesla V100-SXM2-16GB", memoryBytes: 16_160 * 2 ** 20, isDedicated: true },
];

describe("nvidia-smi", () => {
  test("tells names, and memory in MiB", async () => {
    expect(await find(printing(workstation))).toEqual([large, small, old]);
    expect(await find(printing(workstation.replaceAll("\n", "\r\n")))).toEqual([large, small, old]);
  });

  test.each(["[N/A]", "[Not Supported]", "[Unknown Error]"])(
    "that says %s of the memory is taken at its word",
    async (word) => {
      expect(await find(printing(`${uuids[0]}, NVIDIA GB10, ${word}\n`))).toEqual([
        { name: "NVIDIA GB10", memoryBytes: null },
      ]);
    },
  );

  test.each([
    ["", []],
    ["-1", []],
    ["1", [small]],
    ["2,0", [old, large]],
    ["0,7,1", [large]],
    [`${uuids[2]}`, [old]],
    [uuids[1]!.slice(0, 12), [small]],
    ["MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", []],
  ])("with CUDA_VISIBLE_DEVICES=%s it is those that a program here may use", async (devices, found) => {
    const environment = { CUDA_VISIBLE_DEVICES: devices };
    expect(await find({ ...printing(workstation), environment })).toEqual(found);
  });

  test.each([
    ["", "nothing"],
    ["No devices were found\n", "no device"],
    ["NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", "no driver"],
  ])("that prints %j tells of no GPU", async (text) => expect(await find(printing(text))).toEqual([]));

  test("that is not there, or fails, is no error", async () => {
    expect(await find({})).toEqual([]);
    await expect(queryNvidia(sources(), never)).rejects.toMatchObject({ code: "ENOENT" });
  });

  test("that never ends is waited for ten seconds", async () => {
    const clock = new FakeClock();
    const asked = Promise.withResolvers<AbortSignal>();
    const nvidiaSmi: GpuSources["nvidiaSmi"] = (_parameters, signal) => {
      asked.resolve(signal);
      return new Promise(() => {}); // its driver hangs: not even SIGKILL ends it
    };
    const found = findGpus(sources({ nvidiaSmi }), { clock, signal: never });
    const signal = await asked.promise;
    await clock.advance(9_999);
    expect(signal.aborted).toBe(false);
    await clock.advance(1);
    expect(await found).toEqual([]);
    expect(signal.aborted).toBe(true);
    expect(clock.pendingTimers).toBe(0);
  });

  test.skipIf(process.platform === "win32")("is run without our secrets", async () => {
    const folder = temporaryFolder();
    const program = join(folder, "nvidia-smi");
    writeFileSync(program, `#!/bin/sh\necho "${uuids[0]}, $1 secret=$RINGFOLD_JOIN, 81559"\n`);
    chmodSync(program, 0o755);
    const before = { PATH: process.env.PATH, RINGFOLD_JOIN: process.env.RINGFOLD_JOIN };
    Object.assign(process.env, { PATH: `${folder}:${process.env.PATH}`, RINGFOLD_JOIN: "a token" });
    try {
      const { nvidiaSmi } = machineSources();
      expect(await queryNvidia({ nvidiaSmi, environment: {} }, never)).toEqual([
        {
          name: "--query-gpu=uuid,name,memory.total secret=",
          memoryBytes: 81_559 * 2 ** 20,
          isDedicated: true,
        },
      ]);
    } finally {
      process.env.PATH = before.PATH;
      if (before.RINGFOLD_JOIN === undefined) delete process.env.RINGFOLD_JOIN;
      else process.env.RINGFOLD_JOIN = before.RINGFOLD_JOIN;
    }
  });
});

describe("the amdgpu driver", () => {
  function card(folder: string, name: string, files: Readonly<Record<string, string>>): void {
    mkdirSync(join(folder, name, "device"), { recursive: true });
    for (const [file, text] of Object.entries(files)) writeFileSync(join(folder, name, "device", file), text);
  }

  test("tells the memory of each card in bytes, and of server cards the name", async () => {
    const drmFolder = temporaryFolder();
    card(drmFolder, "card1", { mem_info_vram_total: "17163091968\n" });
    card(drmFolder, "card2", { mem_info_vram_total: "68702699520\n", product_name: "AMD Instinct MI210\n" });
    card(drmFolder, "card0", { vendor: "0x8086\n" }); // another driver
    card(drmFolder, "card1-DP-1", { mem_info_vram_total: "1\n" }); // a connector
    card(drmFolder, "renderD128", { mem_info_vram_total: "17163091968\n" }); // the same card again
    expect(await find({ drmFolder })).toEqual([
      { name: "AMD GPU", memoryBytes: 17_163_091_968 },
      { name: "AMD Instinct MI210", memoryBytes: 68_702_699_520 },
    ]);
  });
});

test("a GPU without memory of its own has the machine's", async () => {
  const unifiedMemory = { name: "Apple M2 GPU", memoryBytes: 16 * 2 ** 30 };
  expect(await find({ unifiedMemory })).toEqual([unifiedMemory]);
});
