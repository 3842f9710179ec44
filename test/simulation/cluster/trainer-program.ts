import { EventEmitter } from "node:events";
import { sha256 } from "../../../agent/artefact/store.ts";
import type { ChildProgram } from "../../../agent/child-program.ts";
import { LocalRingHost } from "../../../agent/training/ring-host/local-ring-host.ts";
import type { Trainer } from "../../../agent/training/trainer.ts";
import { TrainerHost } from "../../../agent/training/trainer-host.ts";
import type { FromTrainer, ToTrainer, TrainerSetup } from "../../../agent/training/trainer-messages.ts";
import { assembleSession } from "../../../agent/training/trainer-session.ts";
import { encodeState } from "../../../agent/training/training-state.ts";
import type { JobReport } from "../../../protocol/messages/job.ts";
import type { TrainerWitness } from "../checks/witness.ts";
import type { Life } from "../world/scheduler.ts";
import { linearModel, syntheticDataset } from "./linear-model.ts";
import type { Surroundings } from "./surroundings.ts";

const bootMs = { min: 100, max: 1_500 } as const;
const ipcMs = { min: 0.05, max: 1 } as const;

/**
 * A trainer process as its agent sees one: messages both ways in order, an exit code at the end. Inside runs the real
 * trainer; simulated are the process, its sockets, its disk and its compute engine.
 */
export class TrainerProgram extends EventEmitter {
  readonly pid: number;
  readonly life: Life;
  connected = true;
  exitCode: number | null = null;
  signalCode: NodeJS.Signals | null = null;
  readonly #surroundings: Surroundings;
  readonly #parent: Life;
  readonly #host: TrainerHost;
  #witness: TrainerWitness | undefined;
  #trainer: Trainer | undefined;
  #closePlane: () => void = () => {};
  #arrivesAtMs = { inside: 0, outside: 0 };
  #stallMs = 0;

  constructor(surroundings: Surroundings, parent: Life, pid: number) {
    super();
    this.#surroundings = surroundings;
    this.#parent = parent;
    this.pid = pid;
    this.life = surroundings.world.live();
    this.#host = new TrainerHost({
      send: (report) => this.#report(report),
      open: (setup) => this.#open(setup),
      logFor: () => surroundings.world.logOf(`trainer ${pid}`),
      exit: () => this.#exit(0, null),
    });
  }

  /** As ChildProcess: the message arrives unless the process ends first. */
  send(message: ToTrainer): boolean {
    if (!this.connected) return false;
    const copy = structuredClone(message);
    this.#inOrder("inside", () => this.life.alive && this.#host.receive(this.#changed(copy)));
    return true;
  }

  kill(signal: NodeJS.Signals = "SIGKILL"): boolean {
    if (this.life.alive) this.#exit(null, signal);
    return true;
  }

  /** The agent is gone: the channel closes, and the program ends by itself. */
  disconnect(): void {
    this.connected = false;
    if (this.life.alive) void this.#host.shutDown();
  }

  /** The next computation takes this much longer. */
  stall(durationMs: number): void {
    this.#stallMs = durationMs;
  }

  async #open(setup: TrainerSetup) {
    const { world, planes, disk, witness, peerId } = this.#surroundings;
    const { random } = world;
    const { life } = this;
    const { data } = setup.spec;
    await life.pause(random.skewed(bootMs.min, bootMs.max));
    const plane = planes.open(peerId, life);
    this.#closePlane = plane.crash;
    const host = new LocalRingHost({
      ...{ peerId, plane },
      digestState: async (state) => sha256(state),
      nowMs: () => life.monotonicMs(),
    });
    const model = linearModel(setup.spec, {
      compute: async () => {
        const stallMs = this.#stallMs;
        this.#stallMs = 0;
        await life.pause(stallMs + random.skewed(1, 25));
      },
      onGradient: (examples) => this.#witness?.gradient(examples),
      onWrite: () => this.#witness?.stateChanged(),
    });
    const { session, trainer } = await assembleSession({
      ...{ setup, model, host },
      bucketRule: { overlapBytesMin: 0, bucketBytesMin: 64 },
      send: (report) => this.#report(report),
      log: world.logOf(`trainer ${this.pid}`),
      clock: life,
      nowMs: () => life.monotonicMs(),
      nextTurn: () => life.pause(random.real(0.01, 0.2)),
      data: syntheticDataset(data.source === "mnist" ? (data.trainExamples ?? 1) : 1),
      engineName: "cpu",
      store: disk.open(life),
      closeModel: () => model.close(),
    });
    this.#trainer = trainer;
    this.#witness = witness.trainer({
      ...{ peerId, life, parent: this.#parent, pid: this.pid, jobId: setup.jobId },
      state: trainer.state,
      encodeState: () => encodeState(trainer.state, model.layout),
    });
    session.announce();
    return session;
  }

  #report(report: JobReport): void {
    this.#witness?.reported(report);
    const changed = this.#surroundings.mutation?.changeReport?.(report) ?? report;
    const message: FromTrainer = structuredClone({ kind: "report", report: changed });
    if (this.connected) this.#inOrder("outside", () => this.#parent.alive && this.emit("message", message));
  }

  #changed(message: ToTrainer): ToTrainer {
    const changePlan = this.#surroundings.mutation?.changePlan;
    if (message.kind !== "start" || !changePlan || !this.#trainer) return message;
    return { ...message, plan: changePlan(message.plan, this.#trainer) };
  }

  #exit(code: number | null, signal: NodeJS.Signals | null): void {
    this.life.end();
    this.#closePlane();
    this.#surroundings.world.trace(
      `trainer ${this.pid} of ${this.#surroundings.name} ends ${signal ?? code}`,
    );
    this.#inOrder("outside", () => {
      this.connected = false;
      this.exitCode = code;
      this.signalCode = signal;
      if (this.#parent.alive) this.emit("exit", code, signal);
    });
  }

  #inOrder(way: "inside" | "outside", deliver: () => void): void {
    const { scheduler, random } = this.#surroundings.world;
    const atMs = Math.max(
      scheduler.nowMs + random.skewed(ipcMs.min, ipcMs.max),
      this.#arrivesAtMs[way] + 1e-3,
    );
    this.#arrivesAtMs[way] = atMs;
    scheduler.after(atMs - scheduler.nowMs, deliver);
  }
}

export const asChild = (program: TrainerProgram): ChildProgram => program as unknown as ChildProgram;
