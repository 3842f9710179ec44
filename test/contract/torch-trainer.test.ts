import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { readScriptLog } from "../../agent/torch/script-log.ts";
import { type ScriptOptions, ScriptProcess } from "../../agent/torch/script-process.ts";
import { TorchTrainer } from "../../agent/torch/torch-trainer.ts";
import { CatchUp } from "../../agent/training/healing/catch-up.ts";
import type { Entry } from "../../agent/training/healing/entry.ts";
import type { BucketRule } from "../../agent/training/synchronization/buckets.ts";
import type { StepReport } from "../../agent/training/trainee.ts";
import { limits } from "../../protocol/limits.ts";
import { systemClock } from "../../protocol/ports.ts";
import { exampleSpec } from "../fixtures/messages.ts";
import { silentLog } from "../fixtures/silent-log.ts";
import { temporaryFolder } from "../fixtures/temporary-folder.ts";
import { memoryRings } from "../fixtures/trainers.ts";

/**
 * Real scripts in real processes, on rings in memory. The script needs Python alone, so that the bridge is checked wherever
 * that is; with PyTorch it is checked in test/e2e/torch.test.ts.
 */
const python = "python3";
const hasPython = spawnSync(python, ["--version"]).status === 0;
const source = readFileSync(new URL("../fixtures/counting-script.py", import.meta.url), "utf8");
const script = (...args: string[]) => ({
  ...{ name: "counting-script.py", source, args },
  digest: createHash("sha256").update(source).digest("hex"),
});
const never = new AbortController().signal;

const mount = (folder: string, size: string): boolean =>
  spawnSync("mount", ["-t", "tmpfs", "-o", `size=${size}`, "ringfold-test", folder]).status === 0;
const unmount = (folder: string) => void spawnSync("umount", ["--lazy", folder]);
/** Root may, unless its container may not. */
const mayMount = (() => {
  const folder = mkdtempSync(join(tmpdir(), "ringfold-mount-"));
  const may = mount(folder, "64k");
  if (may) unmount(folder);
  rmSync(folder, { recursive: true });
  return may;
})();
/** A memory of its own and of this size. */
function memoryOf(size: string): string {
  const folder = temporaryFolder();
  if (mount(folder, size)) onTestFinished(() => unmount(folder));
  return folder;
}

type ScriptChanges = Partial<Pick<ScriptOptions, "python" | "sharedFolder" | "silence">>;
async function openScript(args: string[], options: ScriptChanges = {}) {
  const folder = temporaryFolder();
  const process = await ScriptProcess.start({
    ...{
      jobId: "job-1",
      script: script(...args),
      seed: 1,
      folder,
      clock: systemClock,
      log: silentLog,
      python,
    },
    ...options,
  });
  onTestFinished(() => process.close());
  return process;
}

interface RankOptions {
  readonly silence?: ScriptOptions["silence"];
  readonly nonFinite?: "stop" | "skip";
  readonly bucketRule?: BucketRule;
  /** Of checkpoints. */
  readonly everySteps?: number;
}

async function openRank(
  args: string[],
  { nonFinite = "stop", bucketRule, everySteps = 100, silence }: RankOptions = {},
  changes: ScriptChanges = {},
) {
  const reports: StepReport[] = [];
  const rank = { reports, onStep: async (_report: StepReport): Promise<void> => {} };
  const process = await openScript(args, silence ? { ...changes, silence } : changes);
  const trainer = await TorchTrainer.open({
    spec: exampleSpec({ nonFinite }),
    script: process,
    nowMs: () => performance.now(),
    nextWanted: (step) => everySteps * (Math.floor(step / everySteps) + 1),
    ...(bucketRule ? { bucketRule } : {}),
    onStep: async (report) => {
      reports.push(report);
      await rank.onStep(report);
    },
  });
  onTestFinished(() => trainer.close());
  return Object.assign(rank, { trainer, process });
}

const openRanks = (count: number, ...args: Parameters<typeof openRank>) =>
  Promise.all(Array.from({ length: count }, () => openRank(...args)));

/** What each element of the script's state is after these steps in a world of this size. */
const expected = (steps: number, worldSize: number): number => {
  let value = 0;
  for (let step = 0; step < steps; step++) value += worldSize * step + (worldSize * (worldSize - 1)) / 2;
  return value;
};
const valuesOf = (state: Uint8Array) => new Float32Array(state.slice(64).buffer);

describe.skipIf(!hasPython)("a script beside a trainer (skipped without python3)", () => {
  test("gradients are summed, every rank stands at the same place, and steps are told in order", async () => {
    const ranks = await openRanks(2, ["5"]);
    const rings = memoryRings(2);
    const outcomes = await Promise.all(ranks.map(({ trainer }, i) => trainer.run(rings[i]!, never)));
    expect(outcomes).toEqual(["done", "done"]);
    expect(ranks[0]!.trainer.point()).toEqual(ranks[1]!.trainer.point());
    expect(ranks[0]!.trainer.point().step).toBe(5);
    for (const { reports } of ranks) {
      expect(reports.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5]);
      expect(reports[0]).toMatchObject({ examples: 8, loss: 0.5, accuracy: 0.25 });
      expect(reports.map(({ wantsCheckpoint }) => wantsCheckpoint)).toEqual([
        false,
        true,
        false,
        false,
        false,
      ]);
    }
    const evaluations = await Promise.all(ranks.map(({ trainer }, i) => trainer.evaluate(rings[i]!, never)));
    expect(evaluations).toEqual(Array(2).fill({ examples: 8, loss: 0.25, accuracy: 0.75, metrics: {} }));
    const weights = await Promise.all(ranks.map(({ trainer }) => trainer.encodeWeights()));
    expect(new Set(new Float32Array(weights[0]!.slice().buffer))).toEqual(new Set([expected(5, 2)]));
    expect(Buffer.compare(weights[0]!, weights[1]!)).toBe(0);
    for (const { process } of ranks) {
      expect(await process.ended).toBeUndefined();
      expect(readFileSync(process.logPath, "utf8")).toBe("done at 5\n");
      expect(existsSync(process.sharedPath)).toBe(false);
    }
  });

  test("buckets that leave early sum to the same bits, on a rank that sends them so and on one that does not", async () => {
    const bucketRule = { overlapBytesMin: 1, bucketBytesMin: 32 * 1024 };
    const ranks = [
      await openRank(["5", "overlaps"], { bucketRule }),
      await openRank(["5"], { bucketRule }),
      await openRank(["5", "overlaps"], { bucketRule }),
    ];
    const rings = memoryRings(3);
    await Promise.all(ranks.map(({ trainer }, i) => trainer.run(rings[i]!, never)));
    const states = await Promise.all(ranks.map(({ trainer }) => trainer.encodeState()));
    expect(new Set(valuesOf(states[0]!))).toEqual(new Set([expected(5, 3)]));
    for (const state of states) expect(Buffer.compare(state, states[0]!)).toBe(0);
    for (const { reports } of ranks)
      for (const { communicationMs, hiddenCommunicationMs } of reports)
        expect(Math.min(communicationMs, hiddenCommunicationMs)).toBeGreaterThanOrEqual(0);
  });

  test("a number that is not finite in a bucket that has left takes the whole step back", async () => {
    const bucketRule = { overlapBytesMin: 1, bucketBytesMin: 32 * 1024 };
    const ranks = await openRanks(2, ["4", "diverges early"], { nonFinite: "skip", bucketRule });
    const rings = memoryRings(2);
    await Promise.all(ranks.map(({ trainer }, i) => trainer.run(rings[i]!, never)));
    const states = await Promise.all(ranks.map(({ trainer }) => trainer.encodeState()));
    expect(Buffer.compare(states[0]!, states[1]!)).toBe(0);
    const sumOfStep2 = expected(3, 2) - expected(2, 2);
    expect(new Set(valuesOf(states[0]!))).toEqual(new Set([expected(4, 2) - sumOfStep2]));
  });

  test("a gradient that one rank lacks is summed; of one that all lack every rank is told", async () => {
    const ranks = await openRanks(2, ["4", "lacks"]);
    const rings = memoryRings(2);
    await Promise.all(ranks.map(({ trainer }, i) => trainer.run(rings[i]!, never)));
    await Promise.all(ranks.map(({ trainer }) => trainer.encodeWeights()));
    for (const { process } of ranks)
      expect(readFileSync(process.logPath, "utf8")).toBe(
        "step 0 lacks []\nstep 1 lacks []\nstep 2 lacks [1]\nstep 3 lacks []\ndone at 4\n",
      );
  });

  test("a rank alone runs ahead, and stands still where its state is wanted", async () => {
    const rank = await openRank(["60"], { everySteps: 7 });
    const saved = new Map<number, Uint8Array>();
    rank.onStep = async ({ step, wantsCheckpoint }) => {
      if (step % 7 === 0 || wantsCheckpoint) saved.set(step, await rank.trainer.encodeState());
    };
    expect(await rank.trainer.run(memoryRings(1)[0]!, never)).toBe("done");
    let told = 0;
    for (const { step, stepCount } of rank.reports) {
      told += stepCount;
      expect(step).toBe(told);
    }
    expect(told).toBe(60);
    expect(rank.reports.reduce((total, { examples }) => total + examples, 0)).toBe(4 * 60);
    expect([...saved.keys()]).toEqual([2, 7, 14, 21, 28, 35, 42, 49, 56]);
    for (const [step, state] of saved) expect(new Set(valuesOf(state))).toEqual(new Set([expected(step, 1)]));
    expect(rank.trainer.point().step).toBe(60);
  });

  test("losses whose sum f32 cannot hold are told apart", async () => {
    const rank = await openRank(["20", "large losses"]);
    expect(await rank.trainer.run(memoryRings(1)[0]!, never)).toBe("done");
    expect(rank.reports.reduce((total, { stepCount }) => total + stepCount, 0)).toBe(20);
    for (const { loss, fault } of rank.reports) {
      expect(fault).toBeUndefined();
      expect(loss / 5e37).toBeCloseTo(1, 6);
    }
  });

  test("a script that ends in the middle of its loop is not taken for one without", async () => {
    const rank = await openRank(["5", "leaves midway"]);
    await expect(rank.trainer.run(memoryRings(1)[0]!, never)).rejects.toMatchObject({
      code: "SCRIPT_FAILED",
      message: expect.stringContaining("it ended by itself before its last step"),
    });
  });

  test("a rank that runs ahead pauses when it is asked to, and ends when it is told to", async () => {
    const rank = await openRank(["100000"]);
    const end = new AbortController();
    let askedAt = 0;
    rank.onStep = async ({ step }) => {
      if (step >= 20) rank.trainer.requestPause();
      if (step >= 20) askedAt ||= step;
    };
    const [ring, next] = [memoryRings(1)[0]!, memoryRings(1)[0]!];
    expect(await rank.trainer.run(ring, end.signal)).toBe("paused");
    const { step } = rank.trainer.point();
    expect(step).toBeLessThanOrEqual(askedAt + limits.scriptStepsAhead + 2);
    expect(new Set(valuesOf(await rank.trainer.encodeState()))).toEqual(new Set([expected(step, 1)]));
    rank.onStep = async (report) => {
      if (report.step >= step + 40) end.abort();
    };
    await expect(rank.trainer.run(next, end.signal)).rejects.toMatchObject({ code: "CANCELLED" });
    const later = rank.trainer.point();
    expect(later.step).toBeGreaterThanOrEqual(step + 40);
    expect(new Set(valuesOf(await rank.trainer.encodeState()))).toEqual(new Set([expected(later.step, 1)]));
  });

  test("all pause after the same step, a checkpoint comes back to the bit, and the next ring goes on", async () => {
    const [first, second] = await openRanks(2, ["6"]);
    first!.onStep = async ({ step }) => {
      if (step === 2) first!.trainer.requestPause();
    };
    const rings = memoryRings(2);
    const outcomes = await Promise.all(
      [first!, second!].map(({ trainer }, i) => trainer.run(rings[i]!, never)),
    );
    expect(outcomes).toEqual(["paused", "paused"]);
    const point = first!.trainer.point();
    expect(second!.trainer.point()).toEqual(point);
    const state = await first!.trainer.encodeState();
    expect(new Set(valuesOf(state))).toEqual(new Set([expected(point.step, 2)]));
    expect(createHash("sha256").update(state).digest("hex")).toBe(point.hash);

    const third = await openRank(["6"]);
    await third.trainer.restoreState(state);
    expect(third.trainer.point()).toEqual(point);
    expect(await third.trainer.run(memoryRings(1)[0]!, never)).toBe("done");
    expect(third.trainer.point().step).toBe(6);
  });

  test("a state that does not fit is refused and changes nothing", async () => {
    const rank = await openRank(["3"]);
    const before = rank.trainer.point();
    await expect(rank.trainer.restoreState(new Uint8Array(100))).rejects.toMatchObject({
      code: "ARTEFACT_CORRUPT",
      message: "a state of 100 bytes does not fit",
    });
    expect(await rank.trainer.run(memoryRings(1)[0]!, never)).toBe("done");
    expect(before.step).toBe(0);
  });

  test("a script that is killed breaks the ring; the other takes its step again, from where it stands", async () => {
    const [first, second] = await openRanks(2, ["5"]);
    second!.onStep = async ({ step }) => {
      if (step === 3) await second!.process.close();
    };
    const rings = memoryRings(2);
    const [survivor, killed] = await Promise.allSettled([
      first!.trainer.run(rings[0]!, never),
      second!.trainer.run(rings[1]!, never).finally(() => rings[1]!.destroy()),
    ]);
    expect(killed).toMatchObject({ status: "rejected" });
    expect(survivor).toMatchObject({ status: "rejected", reason: { code: "RING_BROKEN" } });
    const { step } = first!.trainer.point();
    expect([3, 4]).toContain(step);
    expect(new Set(valuesOf(await first!.trainer.encodeState()))).toEqual(new Set([expected(step, 2)]));
    expect(await first!.trainer.run(memoryRings(1)[0]!, never)).toBe("done");
    expect(first!.trainer.point().step).toBe(5);
  });

  test("a rank that comes later heals first, and the others wait for it", async () => {
    const [first, late] = await openRanks(2, ["4"]);
    first!.onStep = async ({ step }) => {
      if (step === 1) first!.trainer.requestPause();
    };
    await first!.trainer.run(memoryRings(1)[0]!, never);
    first!.onStep = async () => {};
    const state = await first!.trainer.encodeState();
    const { step } = first!.trainer.point();
    const arrival = Promise.withResolvers<Uint8Array>();
    const told: string[] = [];
    const entry = (catchUp?: CatchUp): Entry => ({
      ...{ step, healingCount: 1, place: { rank: 0, worldSize: 1 } },
      restore: (bytes) => late!.trainer.restoreState(bytes),
      onHealed: () => told.push("healed"),
      onAllHealed: () => told.push("all healed"),
      ...(catchUp ? { catchUp } : {}),
    });
    const rings = memoryRings(2);
    const runs = [
      first!.trainer.run(rings[0]!, never, entry()),
      late!.trainer.run(rings[1]!, never, entry(new CatchUp(arrival.promise))),
    ];
    arrival.resolve(state);
    expect(await Promise.all(runs)).toEqual(["done", "done"]);
    expect(told).toEqual(["healed", "all healed", "all healed"]);
    expect(first!.trainer.point()).toEqual(late!.trainer.point());
  });

  test("a number that is not finite: stop names rank, parameter and step; skip leaves the update out everywhere", async () => {
    const stopping = await openRanks(2, ["4", "diverges"]);
    const rings = memoryRings(2);
    const outcomes = await Promise.allSettled(
      stopping.map(({ trainer }, i) => trainer.run(rings[i]!, never)),
    );
    for (const outcome of outcomes)
      expect(outcome).toMatchObject({
        reason: { code: "NOT_FINITE", message: "the gradient of second is not finite on rank 1 at step 2" },
      });
    const skipping = await openRanks(2, ["4", "diverges"], { nonFinite: "skip" });
    const others = memoryRings(2);
    await Promise.all(skipping.map(({ trainer }, i) => trainer.run(others[i]!, never)));
    const [first, second] = skipping;
    expect(first!.trainer.point()).toEqual(second!.trainer.point());
    expect(first!.trainer.skippedCount).toBe(1);
    const sumOfStep2 = expected(3, 2) - expected(2, 2);
    expect(new Set(valuesOf(await first!.trainer.encodeState()))).toEqual(
      new Set([expected(4, 2) - sumOfStep2]),
    );
  });

  test("numbers that are finite on each rank and not in their sum are named, and reach no script", async () => {
    const stopping = await openRanks(2, ["4", "overflows"]);
    const rings = memoryRings(2);
    const outcomes = await Promise.allSettled(
      stopping.map(({ trainer }, i) => trainer.run(rings[i]!, never)),
    );
    const message = "the gradient of first is finite on each rank at step 2, but their sum is not";
    for (const outcome of outcomes)
      expect(outcome).toMatchObject({ reason: { code: "NOT_FINITE", message } });
  });

  test.each([
    [
      "throws",
      /^the script failed: ValueError: no such luck \(counting-script\.py:\d+\); its log: .*output\.log$/,
    ],
    ["exits", /^the script failed: sys\.exit\(3\)/],
    ["leaves", /it ended before its training: is there a ringfold\.steps\(\) loop\?/],
    ["babbles", /sends what is no message/],
  ])("a script that %s is named", async (mood, message) => {
    const before = readdirSync("/dev/shm").filter((name) => name.startsWith("ringfold-"));
    const process = await openScript(["3", mood]);
    await expect(process.expect("ready", 10_000)).rejects.toMatchObject({ code: "SCRIPT_FAILED", message });
    await process.close();
    expect(readdirSync("/dev/shm").filter((name) => name.startsWith("ringfold-"))).toEqual(before);
  });

  test("a script that never comes to its loop is named, and its log says where it stands", async () => {
    const process = await openScript(["3", "sleeps"]);
    await expect(process.expect("ready", 100)).rejects.toMatchObject({ code: "SCRIPT_SILENT" });
    await process.ended;
    expect(readFileSync(process.logPath, "utf8")).toMatch(
      /Fatal Python error: Aborted[\s\S]*counting-script\.py", line \d+/,
    );
  });

  test.each([
    [
      "hangs in a step",
      "hangs",
      { standingMs: 400, longestCount: 2, silentMs: 60_000 },
      /has stood still for [\d.]+ s/,
    ],
    [
      "computes without end",
      "spins",
      { standingMs: 400, longestCount: 2, silentMs: 3_000 },
      /has said nothing for [\d.]+ s, though/,
    ],
  ] as const)(
    "a script alone that %s is named and ended, and its log says where it stands",
    async (_what, mood, silence, message) => {
      const { trainer, process, reports } = await openRank(["100", mood], { silence });
      const stalled = { code: "SCRIPT_STALLED", message: expect.stringMatching(message) };
      await expect(trainer.run(memoryRings(1)[0]!, never)).rejects.toMatchObject(stalled);
      expect(await process.ended).toMatchObject(stalled);
      expect(reports.at(-1)?.step ?? 0).toBeLessThanOrEqual(2);
      expect(readFileSync(process.logPath, "utf8")).toMatch(/Fatal Python error: Aborted/);
    },
  );

  test("a script alone that computes for longer than a hang would be borne is left in peace", async () => {
    const silence = { standingMs: 500, longestCount: 1, silentMs: 60_000 };
    const { trainer } = await openRank(["4", "computes"], { silence });
    expect(await trainer.run(memoryRings(1)[0]!, never)).toBe("done");
  });

  test.each([
    ["save", "hangs saving", "save its state"],
    ["point", "hangs saving", "say where its state stands"],
    ["load", "hangs loading", "load a state"],
  ] as const)("a script that hangs as it is asked to %s is named and ended", async (kind, mood, doing) => {
    const process = await openScript(["5", mood]);
    await process.expect("ready", 60_000);
    writeFileSync(join(process.sharedPath, kind === "load" ? "state" : "unused"), new Uint8Array(64));
    process.send({ kind });
    const stalled = {
      code: "SCRIPT_STALLED",
      message: expect.stringContaining(`the script did not ${doing} within 0.3 s; its log: `),
    };
    await expect(process.answer(doing, 300)).rejects.toMatchObject(stalled);
    expect(await process.ended).toMatchObject(stalled);
  });

  test("a program that a script has left behind, with its output, holds nothing up", async () => {
    const process = await openScript(["3", "leaves a daemon"]);
    await expect(process.expect("ready", 30_000)).rejects.toMatchObject({ code: "SCRIPT_FAILED" });
  }, 30_000);

  test("of 100 MB of output the newest is kept, with the traceback", async () => {
    const process = await openScript(["3", "floods"]);
    await expect(process.expect("ready", 60_000)).rejects.toMatchObject({ code: "SCRIPT_FAILED" });
    const folder = dirname(process.logPath);
    const kept = readdirSync(folder).filter((name) => name.endsWith(".log"));
    const bytes = kept.reduce((total, name) => total + statSync(join(folder, name)).size, 0);
    expect(bytes).toBeLessThanOrEqual(limits.scriptLogBytes);
    const { text } = readScriptLog(folder, { after: -400, bytesMax: 400, isOver: true });
    expect(text).toMatch(/ValueError: after the flood\n$/);
  }, 60_000);

  test.skipIf(!mayMount)("memory that is too small is named before anything is written to it", async () => {
    // The gradients take 280 KB, and the state as much again.
    const small = openScript(["3"], { sharedFolder: memoryOf("128k") });
    const message = /^\S+ has no room for gradients, which takes 0\.3 MB: 0\.[01] MB are free$/;
    await expect((await small).expect("ready", 10_000)).rejects.toMatchObject({
      ...{ code: "SHARED_MEMORY_FULL", message, remedy: expect.stringContaining("--shm-size") },
    });
    const tight = { sharedFolder: memoryOf("400k") };
    const { trainer } = await openRank(["3"], {}, tight);
    await expect(trainer.encodeState()).rejects.toMatchObject({ code: "SHARED_MEMORY_FULL" });
    const { trainer: other } = await openRank(["3"], {}, { sharedFolder: memoryOf("400k") });
    await expect(other.restoreState(new Uint8Array(280_064))).rejects.toMatchObject({
      ...{ code: "SHARED_MEMORY_FULL", message: expect.stringContaining("no room for the state") },
    });
  });

  test("no Python, and a Python that does not know torch", async () => {
    await expect(openScript(["3"], { python: join(temporaryFolder(), "python") })).rejects.toMatchObject({
      code: "ENGINE_UNAVAILABLE",
      remedy: expect.stringContaining("apt-get install python3-torch"),
    });
  });
});
