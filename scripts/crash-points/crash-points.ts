import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual, parseArgs } from "node:util";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";
import { recordedState, replayLog } from "../../coordinator/decision-log.ts";
import { openLmdbStore } from "../../coordinator/store/lmdb-store.ts";
import { stateAfter } from "./content.ts";

const program = fileURLToPath(new URL("./decider-process.ts", import.meta.url));

export interface CrashReport {
  readonly points: number;
  readonly seed: number;
  /** Decisions that were acknowledged, over all lives. */
  readonly acknowledged: number;
  readonly lostDecisions: number;
  /** Stores that could not be read, or whose log comes to another state than the one stored. */
  readonly damagedStores: number;
  /** Decisions that were on disk and not yet acknowledged when the process died. */
  readonly unacknowledgedKept: number;
}

/**
 * Kills a process that decides over one store with SIGKILL, `points` times, each at a moment drawn from the seed: so many
 * acknowledgements after its start, and so many microseconds later. After each death the store is opened and read whole.
 */
export async function runCrashPoints(options: {
  readonly points: number;
  readonly seed: number;
  readonly onPoint?: (point: number) => void;
}): Promise<CrashReport> {
  const folder = await mkdtemp(join(tmpdir(), "ringfold-crash-points-"));
  const path = join(folder, "store");
  const random = xoroshiro128plus(options.seed);
  const totals = { acknowledged: 0, lostDecisions: 0, damagedStores: 0, unacknowledgedKept: 0 };
  let known = 0;
  try {
    for (let point = 1; point <= options.points; point++) {
      const after = uniformInt(random, 0, 30);
      const acknowledged = await killDecider(path, after, uniformInt(random, 0, 4_000));
      const least = Math.max(known, acknowledged);
      const found = await inspect(path);
      totals.acknowledged += Math.max(0, acknowledged - known);
      if (found === undefined) totals.damagedStores++;
      else {
        totals.lostDecisions += Math.max(0, least - found);
        totals.unacknowledgedKept += Math.max(0, found - least);
        known = found;
      }
      options.onPoint?.(point);
    }
    return { points: options.points, seed: options.seed, ...totals };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Resolves with the last number that was acknowledged; 0 when it died before. */
async function killDecider(path: string, after: number, delayUs: number): Promise<number> {
  const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", program, path], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const closed = once(child, "close");
  let said = "";
  for await (const chunk of child.stdout.setEncoding("utf8")) {
    said += chunk as string;
    if (child.killed || said.split("\n").length - 1 <= after) continue;
    await delay(Math.floor(delayUs / 1_000));
    const endNs = process.hrtime.bigint() + BigInt((delayUs % 1_000) * 1_000);
    while (process.hrtime.bigint() < endNs); // finer than any timer
    child.kill("SIGKILL");
  }
  const [, signal] = (await closed) as [number | null, NodeJS.Signals | null];
  if (signal !== "SIGKILL") throw new Error(`the decider ended by itself: ${said.split("\n").at(-2)}`);
  const numbers = said.split("\n").slice(0, -1).map(Number).filter(Number.isFinite);
  return numbers.at(-1) ?? 0;
}

/** How many decisions the store holds; undefined when it is damaged. */
async function inspect(path: string): Promise<number | undefined> {
  const store = await openLmdbStore(path);
  try {
    const state = recordedState(store);
    const newest = (state.get("counter/newest") as number | undefined) ?? 0;
    const isWhole =
      isDeepStrictEqual(replayLog(store), state) && isDeepStrictEqual(stateAfter(newest), state);
    return isWhole ? newest : undefined;
  } catch {
    return undefined;
  } finally {
    await store.close();
  }
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      points: { type: "string", default: "1000" },
      seed: { type: "string", default: "1" },
      json: { type: "boolean", default: false },
    },
  });
  const startedMs = performance.now();
  const points = Number(values.points);
  const report = await runCrashPoints({
    points,
    seed: Number(values.seed),
    onPoint: (point) => {
      const leftS = (((performance.now() - startedMs) / point) * (points - point)) / 1_000;
      if (point % 50 === 0) process.stderr.write(`${point} of ${points}, ${Math.round(leftS)} s to go\n`);
    },
  });
  const seconds = Math.round((performance.now() - startedMs) / 100) / 10;
  const told = { ...report, seconds };
  if (values.json) console.log(JSON.stringify(told));
  else for (const [name, value] of Object.entries(told)) console.log(`${name.padEnd(20)} ${value}`);
  process.exitCode = report.lostDecisions + report.damagedStores > 0 ? 1 : 0;
}
