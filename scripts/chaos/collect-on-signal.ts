import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { BroadcastChannel, isMainThread } from "node:worker_threads";

/**
 * Loaded into each process of a chaos run before its own program, and into its threads: SIGUSR2 collects all garbage. What
 * is resident then is what is alive; without that it is also what V8 has not yet bothered to collect.
 */
setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;
// A signal reaches the main thread only.
const threads = new BroadcastChannel("ringfold-collect");
threads.unref();
if (isMainThread) {
  process.on("SIGUSR2", () => {
    threads.postMessage(null);
    collect();
  });
} else threads.onmessage = () => collect();
