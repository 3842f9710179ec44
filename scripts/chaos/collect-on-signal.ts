import { readlinkSync, renameSync, writeFileSync } from "node:fs";
import { parse } from "node:path";
import { setFlagsFromString } from "node:v8";
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

function tell(): void {
  collect();
  const { heapUsed, external } = process.memoryUsage();
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
