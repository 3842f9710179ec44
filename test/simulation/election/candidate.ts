import { openCoordinator } from "../../../coordinator/coordinator.ts";
import type { Coordinator } from "../../../coordinator/port.ts";
import { type AskEndpoint, attemptMs, createEtcdClient } from "../../../coordinator/store/etcd-client.ts";
import { campaign, type Leadership } from "../../../coordinator/store/etcd-leadership.ts";
import { openEtcdStore } from "../../../coordinator/store/etcd-store.ts";
import { leadInTurns } from "../../../coordinator/store/turns.ts";
import { RingfoldError } from "../../../protocol/errors.ts";
import type { Clock } from "../../../protocol/ports.ts";
import { simulatedAuthority, simulatedNotary } from "../cluster/notary.ts";
import type { SimulatedNetwork } from "../world/network.ts";
import type { Life } from "../world/scheduler.ts";
import type { World } from "../world/world.ts";
import type { SimulatedEtcd } from "./etcd.ts";

export const prefix = "lab/";
const endpoints = ["etcd-1", "etcd-2", "etcd-3"];
/** So few that the log goes over into its snapshot several times. */
const decisionsKept = 40;

/** What the way to etcd does to requests. */
export interface Way {
  readonly latencyMs: { readonly min: number; readonly max: number };
  /** Of requests: never arrive. */
  readonly loss: number;
  /** Of answers. */
  readonly answerLoss: number;
  /** Of requests that arrive long after whoever sent them has given up. */
  readonly late: number;
}

export const clear: Way = { latencyMs: { min: 0.2, max: 3 }, loss: 0, answerLoss: 0, late: 0 };
const lateMsMax = 12_000;

export interface CandidateOptions {
  readonly world: World;
  readonly etcd: SimulatedEtcd;
  readonly network: SimulatedNetwork;
  readonly name: string;
  /** A bug: changes what is sent to etcd. */
  readonly tamper: ((path: string, body: object) => object) | undefined;
  /** Its turn has begun. */
  readonly onLeading: (coordinator: Coordinator, name: string) => void;
}

/** One of several coordinators, as scripts/run/run-candidate.ts assembles it: its process comes and goes, and may be stopped. */
export class Candidate {
  readonly #options: CandidateOptions;
  #process: Process | undefined;
  way: Way = clear;
  isCut = false;

  constructor(options: CandidateOptions) {
    this.#options = options;
  }

  get name(): string {
    return this.#options.name;
  }

  /** While it leads, or believes that it does. */
  get coordinator(): Coordinator | undefined {
    return this.#process?.coordinator;
  }

  /** Whether it runs, and nothing has told it that its turn is over. */
  get holdsOn(): boolean {
    return this.#process?.holdsOn ?? false;
  }

  get isUp(): boolean {
    return this.#process !== undefined;
  }

  start(): void {
    if (this.#process) return;
    const { world, name } = this.#options;
    world.trace(`${name} starts`);
    const process = new Process(world.live());
    this.#process = process;
    this.#run(process).catch((cause) => {
      if (process.life.alive) world.violate("no part gives up", `${name}: ${String(cause)}`);
    });
  }

  /** SIGKILL. */
  kill(): void {
    const process = this.#process;
    if (!process) return;
    this.#options.world.trace(`${this.name} is killed`);
    this.#process = undefined;
    process.life.end();
    process.leave?.();
  }

  /** SIGSTOP, and SIGCONT after so long. */
  stall(durationMs: number): void {
    this.#process?.stall(durationMs);
  }

  /** Calls when its process runs; never when that has ended before. */
  whenAwake(call: () => void): void {
    this.#process?.whenAwake(call);
  }

  async #run(process: Process): Promise<void> {
    const { world, network, name, onLeading, tamper } = this.#options;
    const signal = new AbortController().signal;
    const asked = createEtcdClient(endpoints, this.#ask(process));
    const client: typeof asked = {
      call: (path, body, schema, until) => asked.call(path, tamper?.(path, body) ?? body, schema, until),
    };
    const time = { clock: process, nowMs: () => process.life.monotonicMs() };
    await leadInTurns({
      signal,
      standBy: () => campaign(client, { prefix, self: name, signal, time }),
      open: async (leadership: Leadership) => {
        process.leadership = leadership;
        const store = await openEtcdStore(client, { prefix, leadership, clock: process });
        const node = network.open(name, process.life);
        process.leave = () => network.crash(node);
        const coordinator = await openCoordinator({
          ...{ network: node, store, clock: process, log: world.logOf(name), release: "0.0.0" },
          credentials: { authority: simulatedAuthority, swarmKey: "" },
          notary: simulatedNotary,
          decisionLog: { kept: decisionsKept },
        });
        process.coordinator = coordinator;
        world.trace(`${name} leads, term ${coordinator.term}`);
        onLeading(coordinator, name);
        return {
          close: async () => {
            await coordinator.close();
            network.crash(node);
          },
        };
      },
      onDeposed: () => {
        process.coordinator = undefined;
        world.trace(`${name} stands by`);
      },
    });
  }

  /** One attempt at one node: as `fetch` with its timeout. */
  #ask(process: Process): AskEndpoint {
    const { world, etcd } = this.#options;
    const { random, scheduler } = world;
    return (_endpoint, path, body, signal) => {
      const { way } = this;
      const answer = Promise.withResolvers<unknown>();
      const fail = () => process.whenAwake(() => answer.reject(new Error("no answer")));
      const cancelTimer = process.after(attemptMs, fail);
      signal?.addEventListener("abort", fail, { once: true });
      const settle = (outcome: () => void) =>
        scheduler.after(random.skewed(way.latencyMs.min, way.latencyMs.max), () =>
          process.whenAwake(outcome),
        );
      const arrive = () => {
        const answerIsLost = this.isCut || random.chance(way.answerLoss);
        try {
          const answered = etcd.execute(path, body);
          if (!answerIsLost) settle(() => answer.resolve(answered));
        } catch (cause) {
          if (!(cause instanceof RingfoldError)) throw cause;
          if (!answerIsLost) settle(() => answer.reject(cause));
        }
      };
      const isLate = random.chance(way.late);
      const delayMs = isLate
        ? random.real(attemptMs, lateMsMax)
        : random.skewed(way.latencyMs.min, way.latencyMs.max);
      // What was on its way before the cut, or lies in a stopped node, arrives all the same.
      if ((!this.isCut || isLate) && !random.chance(way.loss)) scheduler.after(delayMs, arrive);
      return answer.promise.finally(() => {
        cancelTimer();
        signal?.removeEventListener("abort", fail);
      });
    };
  }
}

/** A process whose timers and answers wait while it is stopped. */
class Process implements Clock {
  readonly life: Life;
  coordinator: Coordinator | undefined;
  leadership: Leadership | undefined;
  /** Takes it off the network. */
  leave: (() => void) | undefined;
  #stalledUntilMs = 0;

  constructor(life: Life) {
    this.life = life;
  }

  get holdsOn(): boolean {
    return this.leadership?.lost.aborted === false && this.#stalledUntilMs <= this.life.monotonicMs();
  }

  nowMs(): number {
    return this.life.nowMs();
  }

  monotonicMs(): number {
    return this.life.monotonicMs();
  }

  after(delayMs: number, callback: () => void): () => void {
    let cancelled = false;
    const cancel = this.life.after(delayMs, () =>
      this.whenAwake(() => {
        if (!cancelled) callback();
      }),
    );
    return () => {
      cancelled = true;
      cancel();
    };
  }

  stall(durationMs: number): void {
    this.#stalledUntilMs = Math.max(this.#stalledUntilMs, this.life.monotonicMs() + durationMs);
  }

  whenAwake(call: () => void): void {
    if (!this.life.alive) return;
    const leftMs = this.#stalledUntilMs - this.life.monotonicMs();
    if (leftMs <= 0) return call();
    this.life.after(leftMs, () => this.whenAwake(call));
  }
}
