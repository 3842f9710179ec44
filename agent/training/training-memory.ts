import type { Engine } from "../engine/port.ts";
import { usableMemory } from "../usable-memory.ts";
import type { TrainingMemory } from "./memory-forecast.ts";
import type { TrainerSetup } from "./trainer-messages.ts";

/** What a job may take on this machine. */
export function trainingMemory(
  { memoryLimitBytes, gpuMemoryBytes }: Pick<TrainerSetup, "memoryLimitBytes" | "gpuMemoryBytes">,
  engine: Pick<Engine, "name" | "gpu">,
): TrainingMemory {
  const isThere = gpuMemoryBytes !== undefined && isOnNvidia(engine);
  return { ...usableMemory(memoryLimitBytes), engine: engine.name, ...(isThere && { gpuMemoryBytes }) };
}

/** Its driver is the one that tells memory. WebGPU may have taken another GPU of the machine, by whose name it goes. */
const isOnNvidia = ({ name, gpu }: Pick<Engine, "name" | "gpu">): boolean =>
  gpu !== null && (name === "tensorflow" || /nvidia/i.test(gpu));
