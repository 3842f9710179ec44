import os from "node:os";
import type { Capabilities } from "../../protocol/messages/membership.ts";
import type { EngineFacts } from "../engine/probe.ts";
import { usableMemory } from "../usable-memory.ts";

/** What its owner says, and what was found beside the engine. */
interface MachineFacts extends Pick<Capabilities, "engines" | "gpus" | "labels" | "scripts"> {
  readonly memoryLimitBytes?: number | undefined;
}

export function machineCapabilities(
  engine: EngineFacts,
  { memoryLimitBytes, ...facts }: MachineFacts,
): Capabilities {
  const cpus = os.cpus();
  return {
    hostname: os.hostname(),
    platform: `${process.platform}-${process.arch}`,
    cpuModel: cpus[0]?.model.trim() || "unknown",
    cpuCount: os.availableParallelism(),
    memoryBytes: os.totalmem(),
    gpu: engine.gpu,
    engine: engine.name,
    engineReason: engine.reason,
    gflops: engine.gflops,
    usableMemoryBytes: usableMemory(memoryLimitBytes).memoryBytes,
    ...facts,
  };
}

/** Measures how many of the machine's cores were busy since the last call; 2 is two cores. */
export function createLoadMeter(): () => { cpu: number; residentBytes: number } {
  let before = cpuTimes();
  return () => {
    const now = cpuTimes();
    const totalMs = Math.max(1, now.totalMs - before.totalMs);
    const busyShare = (now.busyMs - before.busyMs) / totalMs;
    before = now;
    return { cpu: Math.max(0, busyShare * os.cpus().length), residentBytes: process.memoryUsage.rss() };
  };
}

function cpuTimes(): { busyMs: number; totalMs: number } {
  let busyMs = 0;
  let totalMs = 0;
  for (const { times } of os.cpus()) {
    const sum = times.user + times.nice + times.sys + times.irq + times.idle;
    busyMs += sum - times.idle;
    totalMs += sum;
  }
  return { busyMs, totalMs };
}
