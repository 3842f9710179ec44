import { enginesEverywhere, type JobSpec } from "../../protocol/job-spec.ts";
import { type Capabilities, largestGpu } from "../../protocol/messages/membership.ts";
import type { JobNeeds, Labels } from "../../protocol/needs.ts";

/** What jobs ask of agents, what agents have for them, and whether the one is enough for the other. */

/** What a job asks of each of its agents. */
export interface AgentNeeds extends JobNeeds {
  /** Its owner lets jobs bring scripts. */
  readonly scripts: boolean;
  /** The job names it, and not every agent has it. */
  readonly engine?: string;
}

/** What an agent has for jobs. */
export interface AgentOffer {
  readonly scripts: boolean;
  /** Beside those that every agent has. */
  readonly engines: readonly string[];
  /** Those of them that compute on a GPU. */
  readonly gpuEngines: readonly string[];
  /** Its own engine, which a job gets that names none, computes on a GPU. */
  readonly usesGpu: boolean;
  /** Of its largest GPU; 0 where none is known. */
  readonly gpuMemoryBytes: number;
  readonly memoryBytes: number;
  readonly cores: number;
  readonly labels: Labels;
}

export function needsOf({ engine, needs = {} }: Pick<JobSpec, "engine" | "needs">): AgentNeeds {
  const isNamed = !["auto", "torch", ...enginesEverywhere].includes(engine);
  const { labels, ...sizes } = needs;
  return {
    scripts: engine === "torch",
    ...(isNamed && { engine }),
    ...sizes,
    // In one order: jobs that ask for the same share a key.
    ...(labels && { labels: Object.fromEntries(Object.entries(labels).sort()) }),
  };
}

export function offerOf(capabilities: Capabilities): AgentOffer {
  const { engine, gpu, gpus, labels, scripts } = capabilities;
  const usesGpu = gpu !== null;
  // An agent tells of others only where they opened on a GPU.
  const others = capabilities.engines.filter((name) => name !== engine);
  return {
    ...{ scripts, labels, usesGpu },
    engines: [engine, ...others],
    gpuEngines: usesGpu ? [engine, ...others] : others,
    gpuMemoryBytes: largestGpu(gpus)?.memoryBytes ?? 0,
    memoryBytes: capabilities.usableMemoryBytes ?? capabilities.memoryBytes,
    cores: capabilities.cpuCount,
  };
}

/** Jobs with the same key can use the same agents, but for those where their trainers fail. */
export const keyOf = (needs: AgentNeeds): string => JSON.stringify(needs);

export const meets = (offer: AgentOffer, needs: AgentNeeds): boolean =>
  (!needs.scripts || offer.scripts) &&
  (needs.engine === undefined || offer.engines.includes(needs.engine)) &&
  (needs.gpuMemory === undefined || (offer.gpuMemoryBytes >= needs.gpuMemory && isOnGpu(offer, needs))) &&
  offer.memoryBytes >= (needs.memory ?? 0) &&
  offer.cores >= (needs.cores ?? 0) &&
  (needs.labels === undefined ||
    Object.entries(needs.labels).every(([name, value]) => offer.labels[name] === value));

/** A script may use whatever GPU the machine has. */
const isOnGpu = ({ gpuEngines, usesGpu }: AgentOffer, { scripts, engine }: AgentNeeds): boolean =>
  scripts || (engine === undefined ? usesGpu : gpuEngines.includes(engine));
