import { EventEmitter } from "node:events";
import { sha256 } from "../../../agent/artefact/store.ts";
import type { ChildProgram } from "../../../agent/child-program.ts";
import { AgentFetch } from "../../../agent/training/agent-fetch.ts";
import type { SessionParts } from "../../../agent/training/generation-runner.ts";
import { LocalRingHost } from "../../../agent/training/ring-host/local-ring-host.ts";
import {
  assembleStageSession,
  type StageSessionParts,
} from "../../../agent/training/stages/stage-session.ts";
import type { StageTrainer } from "../../../agent/training/stages/stage-trainer.ts";
import type { Trainer } from "../../../agent/training/trainer.ts";
import { TrainerHost } from "../../../agent/training/trainer-host.ts";
import type {
  FetchAnswer,
  FetchRequest,
  FromTrainer,
  ToTrainer,
  TrainerSetup,
} from "../../../agent/training/trainer-messages.ts";
import { assembleSession } from "../../../agent/training/trainer-session.ts";
import { encodeState } from "../../../agent/training/training-state.ts";
import { stageCountOf } from "../../../protocol/job-spec.ts";
import type { JobReport } from "../../../protocol/messages/job-report.ts";
import type { TrainerWitness } from "../checks/witness.ts";
import type { Life } from "../world/scheduler.ts";
import { LayeredStage } from "./layered-model.ts";
import { linearModel, syntheticDataset } from "./linear-model.ts";
import type { Surroundings } from "./surroundings.ts";

type ProgramParts = Omit<SessionParts & StageSessionParts, "host" | "model">;

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
  #trainer: Trainer | StageTrainer | undefined;
  readonly #agent = new AgentFetch((request) => this.#tell(request));
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
  send(message: ToTrainer | FetchAnswer): boolean {
    if (!this.connected) return false;
    const copy = structuredClone(message);
    this.#inOrder("inside", () => {
      if (!this.life.alive) return;
      if (copy.kind === "fetched") this.#agent.answered(copy);
      else this.#host.receive(this.#changed(copy));
    });
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
    const parts = {
      setup,
      plane,
      send: (report: JobReport) => this.#report(report),
      log: world.logOf(`trainer ${this.pid}`),
      clock: life,
      nowMs: () => life.monotonicMs(),
      nextTurn: () => life.pause(random.real(0.01, 0.2)),
      data: syntheticDataset(data.source === "mnist" ? (data.trainExamples ?? 1) : 1),
      engineName: "cpu",
      store: disk.open(life),
      fetchArtefact: (digest: string, signal: AbortSignal) => this.#agent.fetch(digest, digest, signal),
      closeModel: () => {},
      digestState: async (state: Uint8Array) => sha256(state),
    };
    const { session, trainer, layout } =
      setup.stage === undefined ? await this.#assemble(parts) : await this.#assembleStage(parts, setup.stage);
    this.#trainer = trainer;
    this.#witness = witness.trainer({
      ...{ peerId, life, parent: this.#parent, pid: this.pid, jobId: setup.jobId },
      ...{ state: trainer.state, stage: setup.stage },
      encodeState: () => encodeState(trainer.state, layout),
    });
    session.announce();
    return session;
  }

  async #assemble(parts: ProgramParts) {
    const host = new LocalRingHost({ ...parts, peerId: this.#surroundings.peerId });
    const model = linearModel(parts.setup.spec, {
      ...this.#hooks,
      onGradient: (examples) => this.#witness?.gradient(examples),
    });
    const bucketRule = { overlapBytesMin: 0, bucketBytesMin: 64 };
    return { ...(await assembleSession({ ...parts, model, host, bucketRule })), layout: model.layout };
  }

  async #assembleStage(parts: ProgramParts, stage: number) {
    const { spec } = parts.setup;
    const stages = stageCountOf(spec)!;
    const model = new LayeredStage({ ...spec, stages }, stage, {
      ...this.#hooks,
      onGradient: (step, examples) => this.#witness?.microBatch(step, examples),
    });
    return { ...(await assembleStageSession({ ...parts, model })), layout: model.layout };
  }

  readonly #hooks = {
    compute: async () => {
      const stallMs = this.#stallMs;
      this.#stallMs = 0;
      const { world, computeMs } = this.#surroundings;
      await this.life.pause(stallMs + world.random.skewed(computeMs.min, computeMs.max));
    },
    onWrite: () => this.#witness?.stateChanged(),
  };

  #report(report: JobReport): void {
    this.#witness?.reported(report);
    const changed = this.#surroundings.mutation?.changeReport?.(report) ?? report;
    this.#tell({ kind: "report", report: changed });
  }

  #tell(message: FromTrainer | FetchRequest): void {
    const copy = structuredClone(message);
    if (this.connected) this.#inOrder("outside", () => this.#parent.alive && this.emit("message", copy));
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
