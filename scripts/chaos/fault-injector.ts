import { setTimeout as delay } from "node:timers/promises";
import type { JobView } from "../../protocol/messages/api.ts";
import type { AgentProcess, LocalCluster } from "../local-cluster/local-cluster.ts";
import type { Fault, KillFault, StallFault } from "./fault-dice.ts";
import type { JobObserver } from "./job-observer.ts";
import { processesOf, signalProcess } from "./processes.ts";

/** From a fault to the next committed step; the slowest known cause is a stalled neighbour's hop time-out of 15 s. */
const recoveryTimeoutMs = 60_000;

/** One fault as it went. All times are ms since 1970 on this machine's clock. */
export interface FaultRecord {
  readonly victim: string;
  readonly peerId: string;
  readonly fault: Fault;
  readonly atMs: number;
  /** The generation and its world size as the fault struck; `wasRank` whether the victim was one of its ranks. */
  readonly generation: number;
  readonly worldSize: number;
  readonly wasRank: boolean;
  /** From the signal until this process saw that a generation without the victim's old life had committed a step. */
  recoveryMs: number | null;
  /** The same recovery by the coordinator's clock: from the first report of the broken ring. */
  coordinatorMs: number | null;
  /** When the victim could work again; null while it cannot. */
  backAtMs: number | null;
}

interface InjectorModules {
  readonly cluster: LocalCluster;
  readonly folder: string;
  readonly observer: JobObserver;
  readonly signal: AbortSignal;
}

/** Does things to agents, puts them back afterwards, and takes the time until the others have gone on. */
export class FaultInjector {
  readonly records: FaultRecord[] = [];
  readonly #modules: InjectorModules;
  readonly #stalledPids = new Set<number>();

  constructor(modules: InjectorModules) {
    this.#modules = modules;
  }

  /**
   * Strikes at once. `recovered` resolves when the ring has committed a step without the victim's old life, `restored`
   * when the victim works again as well.
   */
  strike(
    victim: string,
    fault: Fault,
  ): {
    readonly record: FaultRecord;
    readonly recovered: Promise<void>;
    readonly restored: Promise<void>;
  } {
    const { cluster, observer } = this.#modules;
    const agent = cluster.agent(victim);
    const generation = observer.job.generations.at(-1);
    const record: FaultRecord = {
      ...{ victim, fault, peerId: agent.ready.peerId, atMs: Date.now() },
      generation: generation?.generation ?? 0,
      worldSize: generation?.ranks.length ?? 0,
      wasRank: generation?.ranks.includes(agent.ready.peerId) ?? false,
      ...{ recoveryMs: null, coordinatorMs: null, backAtMs: null },
    };
    const struckAt = performance.now();
    this.records.push(record);
    if (fault.kind === "kill") {
      const gone = this.#kill(agent, fault);
      return {
        record,
        recovered: this.#awaitRecovery(record, struckAt),
        restored: this.#restart(record, fault, gone),
      };
    }
    this.#stall(agent);
    const recovered = this.#awaitRecovery(record, struckAt);
    return { record, recovered, restored: this.#endStall(record, fault, { agent, recovered }) };
  }

  /** Nothing that is stalled can end by itself. */
  endStalls(): void {
    for (const pid of this.#stalledPids) signalProcess(pid, "SIGKILL");
    this.#stalledPids.clear();
  }

  async #kill(agent: AgentProcess, { reach }: KillFault): Promise<void> {
    const children = reach === "machine" ? this.#childrenOf(agent.pid) : [];
    const exited = agent.kill();
    for (const pid of children) signalProcess(pid, "SIGKILL");
    await exited;
  }

  #stall(agent: AgentProcess): void {
    // The children first: an agent that stops before them would see their last words when it wakes up.
    for (const pid of [...this.#childrenOf(agent.pid), agent.pid]) {
      this.#stalledPids.add(pid);
      signalProcess(pid, "SIGSTOP");
    }
  }

  async #awaitRecovery(record: FaultRecord, struckAt: number): Promise<void> {
    if (!record.wasRank) return; // nobody has to recover from it
    const { observer } = this.#modules;
    const recovery = (job: JobView) =>
      job.generations.find(
        ({ startedAtMs, recoveryMs }) => startedAtMs >= record.atMs && recoveryMs !== null,
      );
    const job = await observer.until((view) => recovery(view) !== undefined || view.state === "succeeded", {
      timeoutMs: recoveryTimeoutMs,
      what: `recovery from the ${record.fault.kind} of ${record.victim}`,
      urgent: true,
    });
    const generation = recovery(job);
    if (!generation) return; // its last step was done before
    record.recoveryMs = performance.now() - struckAt;
    record.coordinatorMs = generation.recoveryMs;
  }

  async #restart(record: FaultRecord, { restartAfterMs }: KillFault, gone: Promise<void>): Promise<void> {
    const { cluster, signal } = this.#modules;
    await gone;
    await delay(restartAfterMs, undefined, { signal });
    await cluster.startAgent(record.victim);
    record.backAtMs = Date.now();
  }

  async #endStall(
    record: FaultRecord,
    { end }: StallFault,
    { agent, recovered }: { readonly agent: AgentProcess; readonly recovered: Promise<void> },
  ): Promise<void> {
    await recovered;
    const pids = [...this.#childrenOf(agent.pid), agent.pid];
    for (const pid of pids) {
      signalProcess(pid, end === "resume" ? "SIGCONT" : "SIGKILL");
      this.#stalledPids.delete(pid);
    }
    if (end === "kill") {
      await agent.kill();
      await this.#modules.cluster.startAgent(record.victim);
    }
    record.backAtMs = Date.now();
  }

  #childrenOf(agentPid: number): number[] {
    return processesOf(this.#modules.folder)
      .filter(({ parentPid }) => parentPid === agentPid)
      .map(({ pid }) => pid);
  }
}
