import { setTimeout as delay } from "node:timers/promises";
import { type ProcessFacts, processesOf, signalProcess, takeLiveBytes } from "./processes.ts";

const sampleIntervalMs = 2_000;
/** Every so many looks all garbage is collected, which takes each process some 50 ms; the next look at memory counts. */
const collectEveryLooks = 5;
/** An option for Node: all processes of a run must be started with it. */
export const collectOnSignal = `--import=${new URL("collect-on-signal.ts", import.meta.url).href}`;
/** A child whose agent was killed closes its ring, its stores and its engine; after this it is an orphan. */
const orphanAfterMs = 15_000;

export interface CollectedMemory {
  /** JavaScript heap and what it holds outside of it, over all threads. */
  readonly liveBytes: number;
  readonly residentBytes: number;
}

export interface ResourceSample {
  readonly atMs: number;
  readonly descriptors: number;
  /** Right after all garbage was collected; null at any other look. */
  readonly collected: CollectedMemory | null;
}

/** The life of one process of the run. */
export interface ProcessLife {
  readonly pid: number;
  readonly name: string;
  readonly samples: ResourceSample[];
}

/** Looks every two seconds at all processes of a run: what they hold, and whether anybody still owns them. */
export class ResourceMonitor {
  readonly lives = new Map<number, ProcessLife>();
  /** Children that outlived their agent, by pid. */
  readonly orphans = new Set<number>();
  readonly #folder: string;
  readonly #closed = new AbortController();
  readonly #ended: Promise<void>;
  readonly #ownerlessSinceMs = new Map<number, number>();

  constructor(folder: string) {
    this.#folder = folder;
    this.#ended = this.#watch();
  }

  async close(): Promise<void> {
    this.#closed.abort();
    await this.#ended;
  }

  async #watch(): Promise<void> {
    const { signal } = this.#closed;
    for (let look = 1; !signal.aborted; look++) {
      const atMs = performance.now();
      const processes = processesOf(this.#folder);
      for (const facts of processes) this.#record(facts, atMs);
      this.#noteOrphans(processes, atMs);
      if (look % collectEveryLooks === 0)
        for (const { pid } of processes.filter((facts) => facts.collectsOnSignal))
          signalProcess(pid, "SIGUSR2");
      await delay(sampleIntervalMs, undefined, { signal }).catch(() => undefined);
    }
  }

  #record({ pid, parentPid, owner, descriptors, residentBytes }: ProcessFacts, atMs: number): void {
    const liveBytes = takeLiveBytes(this.#folder, pid);
    const collected = liveBytes === undefined ? null : { liveBytes, residentBytes };
    const name = parentPid === process.pid ? owner : `child of ${owner}`;
    const life = this.lives.get(pid) ?? { pid, name, samples: [] };
    life.samples.push({ atMs, descriptors, collected });
    this.lives.set(pid, life);
  }

  #noteOrphans(processes: readonly ProcessFacts[], atMs: number): void {
    const owners = new Set([process.pid, ...processes.map(({ pid }) => pid)]);
    const ownerless = new Set(
      processes.filter(({ parentPid }) => !owners.has(parentPid)).map(({ pid }) => pid),
    );
    for (const pid of this.#ownerlessSinceMs.keys())
      if (!ownerless.has(pid)) this.#ownerlessSinceMs.delete(pid);
    for (const pid of ownerless) {
      const sinceMs = this.#ownerlessSinceMs.get(pid) ?? atMs;
      this.#ownerlessSinceMs.set(pid, sinceMs);
      if (atMs - sinceMs > orphanAfterMs) this.orphans.add(pid);
    }
  }
}
