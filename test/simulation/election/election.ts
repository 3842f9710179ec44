import { isDeepStrictEqual } from "node:util";
import { sha256 } from "../../../agent/artefact/store.ts";
import { recordedState, replayLog } from "../../../coordinator/decision-log.ts";
import type { Coordinator } from "../../../coordinator/port.ts";
import { collections } from "../../../coordinator/state.ts";
import { jobSpecSchema } from "../../../protocol/job-spec.ts";
import { memoryPeerId } from "../memory-network.ts";
import { openMemoryStore } from "../memory-store.ts";
import { SimulatedNetwork } from "../world/network.ts";
import { Wire } from "../world/wire.ts";
import { World } from "../world/world.ts";
import { Candidate, type CandidateOptions, clear, prefix } from "./candidate.ts";
import { SimulatedEtcd } from "./etcd.ts";
import {
  drawElectionFaults,
  type ElectionFault,
  type ScheduledElectionFault,
  type Struck,
} from "./faults.ts";

export interface ElectionOptions {
  readonly seed: number;
  readonly keepsLines?: boolean;
  /** In place of those that the seed draws. */
  readonly faults?: readonly ScheduledElectionFault[];
  readonly tamper?: CandidateOptions["tamper"];
}

export interface ElectionOutcome {
  readonly seed: number;
  readonly violation: string | undefined;
  readonly traceHash: string;
  readonly faults: readonly ScheduledElectionFault[];
  readonly lines: readonly string[];
  /** Turns of all candidates. */
  readonly turns: number;
  readonly acknowledged: number;
  /** From each death of a leader to the next turn, ms; those during which nothing else was wrong. */
  readonly leaderlessMs: readonly number[];
}

const candidateCount = 3;
/** The operator asks for so many jobs, each until it is acknowledged. */
const requests = 25;
const requestPauseMsMax = 1_500;
const retryMs = 300;
/** After the last fault somebody leads, and all that was asked for is decided, within so long. */
const progressBoundMs = 20_000;
const eventsMax = 200_000;

/**
 * One seed: three coordinators over one etcd, faults that fall on them and on their way to etcd, and an operator who asks
 * whoever leads for one job after the other, each with a key and until it is acknowledged. Then what is in etcd is
 * looked at: every acknowledged job is there, once, and the log tells the state.
 */
export async function runElection(options: ElectionOptions): Promise<ElectionOutcome> {
  const world = new World({ seed: options.seed, keepsLines: options.keepsLines ?? false });
  const faults = options.faults ?? drawElectionFaults(world.random.fork(), candidateCount);
  const election = new Election(world, options.tamper);
  const onRejection = (cause: unknown) => world.violate("nothing is thrown into the void", String(cause));
  process.on("unhandledRejection", onRejection);
  try {
    await election.run(faults);
  } finally {
    process.off("unhandledRejection", onRejection);
  }
  return {
    ...{ seed: options.seed, faults, lines: world.lines, traceHash: world.traceHash },
    violation: world.violation?.message,
    ...{ turns: election.turns, acknowledged: election.acknowledged.size },
    leaderlessMs: election.leaderlessMs,
  };
}

class Election {
  readonly world: World;
  readonly acknowledged = new Map<string, string>();
  readonly leaderlessMs: number[] = [];
  turns = 0;
  readonly #etcd: SimulatedEtcd;
  readonly #candidates: readonly Candidate[];
  #term = 0;
  /** Of a leader that died while nothing else was wrong, and nothing has been since. */
  #diedAtMs: number | undefined;
  #faultsUnderWay = 0;
  #hadWeather = false;
  #asked = 0;

  constructor(world: World, tamper: CandidateOptions["tamper"]) {
    this.world = world;
    this.#etcd = new SimulatedEtcd(world);
    const network = new SimulatedNetwork(world, new Wire(world));
    const onLeading = (coordinator: Coordinator, name: string) => this.#leads(coordinator, name);
    this.#candidates = Array.from(
      { length: candidateCount },
      (_, i) =>
        new Candidate({
          ...{ world, network, tamper, onLeading, etcd: this.#etcd, name: memoryPeerId(i + 1) },
        }),
    );
  }

  async run(faults: readonly ScheduledElectionFault[]): Promise<void> {
    const { world } = this;
    const { scheduler, random } = world;
    for (const candidate of this.#candidates) scheduler.after(random.skewed(0, 500), () => candidate.start());
    let calmAtMs = 0;
    for (const { atMs, fault } of faults) {
      scheduler.after(atMs, () => this.#inflict(fault));
      calmAtMs = Math.max(calmAtMs, atMs + fault.forMs);
    }
    scheduler.after(0, () => this.#askNext());
    const endMs = calmAtMs + requests * requestPauseMsMax + progressBoundMs;
    while (!world.violation && this.acknowledged.size < requests) {
      const isIdle = !(await scheduler.step());
      if (isIdle || world.elapsedMs > endMs || scheduler.eventsRun > eventsMax)
        world.violate("progress", `${this.acknowledged.size} of ${requests} jobs were acknowledged`);
    }
    // What lies late in a node of etcd comes now.
    const afterMs = world.elapsedMs + 15_000;
    while (!world.violation && world.elapsedMs < afterMs && (await scheduler.step())) {}
    if (!world.violation) await this.#check();
  }

  #leads(coordinator: Coordinator, name: string): void {
    this.turns++;
    const other = this.#candidates.find((candidate) => candidate.holdsOn && candidate.name !== name);
    if (other)
      this.world.violate("one leads at a time", `${name} leads, and ${other.name} believes that it does`);
    if (coordinator.term <= this.#term)
      this.world.violate("terms grow", `${name} leads with term ${coordinator.term} after ${this.#term}`);
    this.#term = coordinator.term;
    if (this.#diedAtMs !== undefined) this.leaderlessMs.push(this.world.elapsedMs - this.#diedAtMs);
    this.#diedAtMs = undefined;
  }

  #inflict(fault: ElectionFault): void {
    const struck = this.#struck(fault.who);
    if (struck.length === 0) return;
    this.world.trace(`FAULT ${JSON.stringify(fault)} on ${struck.map(({ name }) => name).join()}`);
    // A renewal that bad weather has delayed may come long after, and keeps the lease of a dead leader.
    this.#hadWeather ||= fault.kind === "weather";
    const wasAlone = this.#faultsUnderWay++ === 0 && !this.#hadWeather;
    this.#diedAtMs = undefined;
    this.world.scheduler.after(fault.forMs, () => this.#faultsUnderWay--);
    for (const candidate of struck) {
      if (fault.kind === "kill" && wasAlone && candidate.coordinator) this.#diedAtMs = this.world.elapsedMs;
      this.#strike(candidate, fault);
    }
  }

  #struck(who: Struck): readonly Candidate[] {
    if (who === "all") return this.#candidates;
    if (who === "leader") return this.#candidates.filter(({ coordinator }) => coordinator !== undefined);
    return [this.#candidates[who]!];
  }

  #strike(candidate: Candidate, fault: ElectionFault): void {
    const later = (undo: () => void) => void this.world.scheduler.after(fault.forMs, undo);
    switch (fault.kind) {
      case "kill":
        candidate.kill();
        return later(() => candidate.start());
      case "stall":
        return candidate.stall(fault.forMs);
      case "cut":
        candidate.isCut = true;
        return later(() => {
          candidate.isCut = false;
        });
      case "weather":
        candidate.way = fault.way;
        return later(() => {
          candidate.way = clear;
        });
    }
  }

  #askNext(): void {
    if (this.#asked === requests) return;
    this.#ask(`job-of-${++this.#asked}`);
    this.world.scheduler.after(this.world.random.skewed(0, requestPauseMsMax), () => this.#askNext());
  }

  /** Asks until it is acknowledged, also whoever leads no more and does not know it. */
  #ask(name: string): void {
    const { scheduler, random } = this.world;
    if (this.acknowledged.has(name)) return;
    scheduler.after(retryMs, () => this.#ask(name));
    const leaders = this.#candidates.filter(({ coordinator }) => coordinator !== undefined);
    if (leaders.length === 0) return;
    const leader = random.pick(leaders);
    leader.whenAwake(() => {
      leader.coordinator
        ?.submitJob(specOf(name), { key: { key: name, fingerprint: sha256(Buffer.from(name)) } })
        .then(
          ({ id }) => {
            const before = this.acknowledged.get(name);
            if (before !== undefined && before !== id)
              this.world.violate("a request happens once", `${name} is ${before} and ${id}`);
            this.acknowledged.set(name, id);
            this.world.trace(`${name} is ${id}`);
          },
          () => {},
        );
    });
  }

  /** What is in etcd, read as the next leader would. */
  async #check(): Promise<void> {
    const { world } = this;
    const store = openMemoryStore(this.#etcd.values(`${prefix}state/`));
    const jobs = collections.jobs.readAll(store);
    for (const [name, id] of this.acknowledged) {
      const found = jobs.filter(({ spec }) => spec.name === name);
      if (found.length !== 1)
        world.violate("a request happens once", `${name} is there ${found.length} times`);
      if (found[0]?.id !== id) world.violate("no decision is lost", `${name} was acknowledged as ${id}`);
    }
    try {
      if (!isDeepStrictEqual(replayLog(store), recordedState(store)))
        world.violate("the log tells the state", "replaying the decisions comes to another state");
    } catch (cause) {
      world.violate("the log tells the state", String(cause));
    }
  }
}

const specOf = (name: string) =>
  jobSpecSchema.parse({
    name,
    model: { architecture: "mlp", hidden: [] },
    data: { source: "mnist", trainExamples: 10 },
    engine: "cpu",
  });

/** What a person needs to see a failure again. */
export const describeElection = ({ seed, violation, faults, turns, traceHash }: ElectionOutcome): string =>
  [
    `election seed ${seed}: ${violation ?? "all properties held"}`,
    `  ${turns} turns, trace ${traceHash}`,
    ...faults.map(({ atMs, fault }) => `  ${atMs.toFixed(0).padStart(6)} ms ${JSON.stringify(fault)}`),
    `  again: npm run simulate -- --what election --seed ${seed} --trace`,
  ].join("\n");
