import { readlinkSync, renameSync, writeFileSync } from "node:fs";
import { parse } from "node:path";
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { BroadcastChannel, isMainThread, threadId } from "node:worker_threads";
import { liveMemoryPath } from "./processes.ts";

/**
 * Loaded into each process of a chaos run before its own program, and into its threads: SIGUSR2 collects all garbage and
 * writes what is alive then to a file beside the process's log. Without that, memory is also what V8 has not yet bothered
 * to collect, which in a process that allocates little is most of what grows.
 */
setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;
const folder = parse(readlinkSync("/proc/self/fd/2")).dir;

/**
 * Bytecode and machine code: V8 makes more of it, for hours, the more often a function runs, and no more than the program has
 * functions. In a coordinator's 30 minutes it is most of what grows.
 */
const isCode = (space: string): boolean => /^(code|trusted)_/.test(space);

function tell(): void {
  collect();
  const { external } = process.memoryUsage();
  const heapUsed = getHeapSpaceStatistics()
    .filter(({ space_name }) => !isCode(space_name))
    .reduce((sum, { space_used_size }) => sum + space_used_size, 0);
  const path = liveMemoryPath({ folder, pid: process.pid, threadId });
  writeFileSync(`${path}.part`, String(heapUsed + external));
  renameSync(`${path}.part`, path);
}

// A signal reaches the main thread only.
const threads = new BroadcastChannel("ringfold-collect");
threads.unref();
if (isMainThread) {
  process.on("SIGUSR2", () => {
    threads.postMessage(null);
    tell();
  });
} else threads.onmessage = tell;
