import { totalmem } from "node:os";

/** What a training may take: of the container, where it has a bound below the machine's, or as much as the agent's owner gives. */
export function usableMemory(memoryLimitBytes = Number.POSITIVE_INFINITY) {
  const constrained = process.constrainedMemory();
  const machineBytes = constrained > 0 ? Math.min(constrained, totalmem()) : totalmem();
  return {
    memoryBytes: Math.min(memoryLimitBytes, machineBytes),
    isLimited: memoryLimitBytes < machineBytes,
  };
}
