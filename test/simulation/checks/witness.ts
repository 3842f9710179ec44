import { z } from "zod";
import { sha256 } from "../../../agent/artefact/store.ts";
import { type TrainingState, trainingPoint } from "../../../agent/training/training-state.ts";
import type { JobRecord } from "../../../coordinator/decide/job-record.ts";
import type { VersionRecord } from "../../../coordinator/decide/version.ts";
import { decode } from "../../../protocol/codec.ts";
import { limits } from "../../../protocol/limits.ts";
import { type GenerationPlan, startGeneration, type TrainingPoint } from "../../../protocol/messages/job.ts";
import type { HeldCheckpoint, JobReport } from "../../../protocol/messages/job-report.ts";
import type { StoreWrite } from "../../../protocol/ports.ts";
import type { SimulatedNode } from "../world/node.ts";
import type { Life } from "../world/scheduler.ts";
import type { World } from "../world/world.ts";
import { Ledger } from "./ledger.ts";

/** A trainer process as the witness sees it: from inside, past all messages. */
export interface TrainerFacts {
  readonly peerId: string;
  readonly pid: number;
  readonly jobId: string;
  readonly life: Life;
  /** Of its agent. */
  readonly parent: Life;
  readonly state: TrainingState;
  /** Which part of the model it trains, of a job with stages. */
  readonly stage: number | undefined;
  /** Parameters and optimizer, as bytes. */
  readonly encodeState: () => Uint8Array;
}

export interface TrainerWitness {
  /** A gradient of these examples was asked for. */
  gradient(examples: readonly number[]): void;
  /** With stages: one of some examples of the step after `step` completed ones. */
  microBatch(step: number, examples: readonly number[]): void;
  /** The state was stepped or replaced. */
  stateChanged(): void;
  reported(report: JobReport): void;
}

/** No schedule of faults explains more: the ring re-forms without end. */
const generationsMax = 60;
const anything = z.unknown();

/** Sees everything that happens and checks at each event what must hold then. */
export class Witness {
  readonly ledger: Ledger;
  readonly #world: World;
  readonly #trainers = new Set<TrainerFacts>();
  /** The highest term that each agent process has obeyed. */
  readonly #terms = new Map<string, number>();
  /** The newest applied records, the one before first: memory may be one write behind the disk. */
  readonly #applied = new Map<string, readonly JobRecord[]>();
  /** Generations whose start was checked. */
  readonly #begun = new Set<string>();
  /** Whether a peer was in reach all the time since then, and is not on its way out: what it has must not be lost. */
  isReachable: (peerId: string, sinceMs: number) => boolean = () => true;

  /** What lies on the disk of a peer, past all messages. */
  heldBy: (peerId: string, jobId: string) => readonly HeldCheckpoint[] = () => [];

  /** Nothing disturbs those who train: a ring that has begun is formed anew only for somebody who comes. */
  expectsSteadyRings = false;

  constructor(world: World) {
    this.#world = world;
    this.ledger = new Ledger(world);
  }

  agentStarted(peerId: string): void {
    this.#terms.delete(peerId);
  }

  liveTrainers(jobId: string): TrainerFacts[] {
    return [...this.#trainers].filter((facts) => facts.life.alive && facts.jobId === jobId);
  }

  appliedRecords(jobId: string): readonly JobRecord[] {
    return this.#applied.get(jobId) ?? [];
  }

  /** An agent has obeyed a command: terms only grow, and a generation is the same plan for all. */
  obeyed(node: SimulatedNode, protocol: string, request: unknown): void {
    const { term, plan } = request as { term?: number; plan?: GenerationPlan };
    if (term === undefined) return;
    const highest = this.#terms.get(node.peerId) ?? 0;
    if (term < highest)
      this.#world.violate(
        "terms fence",
        `${node.peerId.slice(-6)} obeyed ${protocol} of term ${term}, after ${highest}`,
      );
    this.#terms.set(node.peerId, Math.max(term, highest));
    if (protocol === startGeneration.protocol && plan) this.ledger.sawPlan(plan);
  }

  /** A write of the coordinator is on disk. */
  applied(writes: readonly StoreWrite[]): void {
    for (const { key, value } of writes) {
      if (!value) continue;
      if (key.startsWith("job/"))
        this.#jobApplied(decode(value, anything, limits.artefactBytes) as JobRecord);
      if (key.startsWith("version/"))
        this.ledger.versionApplied(decode(value, anything, limits.artefactBytes) as VersionRecord);
    }
  }

  trainer(facts: TrainerFacts): TrainerWitness {
    this.#trainers.add(facts);
    const { ledger } = this;
    const { state, peerId, jobId, stage } = facts;
    let generation: number | undefined;
    /** Gradients since the last synchronization point. */
    let stepsTaken = 0;
    let { step: lastStep } = state;
    /** Of the step that is under way, with stages. */
    let slice: number[] = [];
    const place = () => ({ jobId, generation: generation!, peerId, stage });
    const point = (): TrainingPoint & { whole: string } => ({
      ...trainingPoint(state),
      whole: sha256(facts.encodeState()),
    });
    return {
      gradient: (examples) => {
        if (generation === undefined) return;
        ledger.contributed({ ...place(), step: state.step + ++stepsTaken }, examples);
      },
      microBatch: (step, examples) => {
        if (generation === undefined) return;
        slice.push(...examples);
        stepsTaken = 1;
        ledger.contributed({ ...place(), step: step + 1 }, [...slice]);
      },
      stateChanged: () => {
        if (state.step === lastStep) return; // the model was told of a local step
        // A rank that heals takes none, and steps with the others once it has the state.
        const isRound = stepsTaken === state.step - lastStep || (stepsTaken === 0 && state.step > lastStep);
        if (generation !== undefined && isRound) ledger.committed(place(), point());
        // With stages all may have to go back to a checkpoint, but not while they train.
        if (state.step < lastStep && (stage === undefined || generation !== undefined))
          this.#world.violate(
            "a trainer never goes back",
            `${peerId.slice(-2)}/${facts.pid}: ${lastStep} to ${state.step}`,
          );
        lastStep = state.step;
        stepsTaken = 0;
        slice = [];
      },
      reported: (report) => {
        this.#world.trace(`${peerId.slice(-2)}/${facts.pid} reports ${describe(report)}`);
        if (report.kind === "started") {
          generation = report.generation;
          stepsTaken = 0;
          slice = [];
          ledger.started(place(), point());
          this.#begins(jobId, generation);
        } else if (report.kind === "ended" || report.kind === "failed") generation = undefined;
      },
    };
  }

  #jobApplied(record: JobRecord): void {
    const [before] = this.appliedRecords(record.id).slice(-1);
    this.#applied.set(record.id, before ? [before, record] : [record]);
    if (!record.plan || record.plan.generation === before?.plan?.generation) return;
    if (record.plan.generation !== (before?.plan?.generation ?? 0) + 1)
      this.#world.violate(
        "generations are consecutive",
        `${record.plan.generation} after ${before?.plan?.generation}`,
      );
    if (record.plan.generation > generationsMax)
      this.#world.violate("progress", `generation ${record.plan.generation}: ${record.plan.reason}`);
    this.#checkDisks(record.plan);
    if (this.expectsSteadyRings) this.#checkSteady(record.plan, before?.plan ?? undefined);
    this.ledger.sawPlan(record.plan);
    const members = record.plan.ranks.map(({ peerId }) => peerId.slice(-2)).join();
    this.#world.trace(
      `plan ${record.plan.generation}: ${members} from ${record.plan.start.step}: ${record.plan.reason}`,
    );
  }

  /** Its ranks have told of what they have: nobody begins before the newest state that lies whole on their disks. */
  #checkDisks({ jobId, generation, ranks, start, stages }: GenerationPlan): void {
    const held = ranks.flatMap(({ peerId }) => this.heldBy(peerId, jobId));
    const parts = stages ? [...stages.keys()] : [null];
    for (const { generation: writtenIn, point } of held.filter((each) => each.point.step > start.step)) {
      const isThere = (stage: number | null) =>
        held.some(
          (each) => each.generation === writtenIn && each.point.step === point.step && each.stage === stage,
        );
      if (!parts.every(isThere)) continue;
      return this.#world.violate(
        "what lies on disks is not forgotten",
        `${jobId} g${generation} begins at step ${start.step}; step ${point.step} of g${writtenIn} is there`,
      );
    }
  }

  #checkSteady(plan: GenerationPlan, previous: GenerationPlan | undefined): void {
    if (!previous || !this.#begun.has(`${plan.jobId}/${previous.generation}`)) return;
    const known = new Set(previous.ranks.map(({ peerId }) => peerId));
    if (plan.ranks.every(({ peerId }) => known.has(peerId)))
      this.#world.violate(
        "a fault of the coordinator alone forms no generation",
        `${plan.jobId} g${plan.generation}: ${plan.reason}`,
      );
  }

  /** The first rank starts a generation: no finished step is lost while a survivor of the one before has it. */
  #begins(jobId: string, generation: number): void {
    const id = `${jobId}/${generation}`;
    const plan = this.ledger.planOf(jobId, generation);
    const previous = this.ledger.planOf(jobId, generation - 1);
    if (this.#begun.has(id) || !plan) return;
    this.#begun.add(id);
    if (!previous) return;
    const survivors = this.liveTrainers(jobId).filter(
      ({ peerId, parent, state }) =>
        state.step > plan.start.step &&
        parent.alive &&
        previous.ranks.some((rank) => rank.peerId === peerId) &&
        this.isReachable(peerId, this.ledger.plannedAtMs(jobId, generation - 1)),
    );
    for (const { peerId, pid, state } of survivors) {
      // A step of a model in stages is there while somebody has it of each stage.
      const holders = survivors.filter((other) => other.state.step === state.step);
      const isWhole = (plan.stages ?? [null]).every((_, stage) =>
        holders.some((holder) => !plan.stages || holder.stage === stage),
      );
      if (!isWhole) continue;
      this.#world.violate(
        "no finished step is lost while a survivor has it",
        `generation ${generation} starts from step ${plan.start.step}; ${peerId.slice(-2)}/${pid} has completed ${state.step}`,
      );
    }
  }
}

function describe(report: JobReport): string {
  const generation = "generation" in report ? ` g${report.generation}` : "";
  const point = "point" in report ? ` step ${report.point.step} ${report.point.hash.slice(0, 6)}` : "";
  const detail =
    "detail" in report ? ` ${report.cause} ${report.detail}` : "code" in report ? ` ${report.code}` : "";
  return `${report.kind}${generation}${point}${detail}`;
}
