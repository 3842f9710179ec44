import { isDeepStrictEqual } from "node:util";
import type { VersionRecord } from "../../../coordinator/decide/version.ts";
import type { GenerationPlan, TrainingPoint } from "../../../protocol/messages/job.ts";
import type { World } from "../world/world.ts";

interface Place {
  readonly jobId: string;
  readonly generation: number;
  readonly peerId: string;
  readonly stage: number | undefined;
}
/** A state: parameters by their hash, and everything (optimizer too) by another. */
type WholePoint = TrainingPoint & { readonly whole: string };

/** What was committed, by whom, from what: the books of all generations of all jobs, and their audit. */
export class Ledger {
  readonly #world: World;
  readonly #plans = new Map<
    string,
    { readonly plan: GenerationPlan; readonly text: string; readonly sinceMs: number }
  >();
  /** By generation and step, and stage where there are some: the state after it. */
  readonly #states = new Map<string, WholePoint>();
  /** By generation and step: the examples of each rank. */
  readonly #slices = new Map<string, Map<string, readonly number[]>>();
  readonly #versions = new Map<string, VersionRecord[]>();
  commits = 0;

  constructor(world: World) {
    this.#world = world;
  }

  sawPlan(plan: GenerationPlan): void {
    const id = `${plan.jobId}/${plan.generation}`;
    const text = JSON.stringify(plan);
    const known = this.#plans.get(id);
    // The order of keys says nothing: a plan that went through the store has that of its schema.
    if (known && !isDeepStrictEqual(known.plan, plan))
      this.#world.violate("one plan per generation", `${id}: ${known.text} and ${text}`);
    this.#plans.set(id, { plan, text, sinceMs: known?.sinceMs ?? this.#world.elapsedMs });
  }

  planOf(jobId: string, generation: number): GenerationPlan | undefined {
    return this.#plans.get(`${jobId}/${generation}`)?.plan;
  }

  /** Virtual milliseconds since the beginning. */
  plannedAtMs(jobId: string, generation: number): number {
    return this.#plans.get(`${jobId}/${generation}`)?.sinceMs ?? 0;
  }

  contributed(at: Place & { readonly step: number }, examples: readonly number[]): void {
    const id = `${at.jobId}/${at.generation}/${at.step}`;
    const slices = this.#slices.get(id) ?? new Map<string, readonly number[]>();
    slices.set(at.peerId, examples);
    this.#slices.set(id, slices);
  }

  /** A rank has the state: that which the plan names, optimizer included, or after healing one that others have made. */
  started(at: Place, point: WholePoint): void {
    const plan = this.planOf(at.jobId, at.generation);
    if (!plan) return this.#world.violate("plans are durable before they run", `generation ${at.generation}`);
    const heals = plan.ranks.some(({ peerId, heals }) => heals && peerId === at.peerId);
    const { hash } = startOf(plan, at.stage);
    const isAtStart = point.step === plan.start.step && point.hash === hash;
    if (!isAtStart && !(heals && point.step > plan.start.step))
      this.#world.violate(
        "all ranks start alike",
        `${name(at)} is at ${text(point)}, the plan at ${text({ step: plan.start.step, hash })}`,
      );
    this.#record(at, point);
  }

  /** A rank has applied a step. */
  committed(at: Place, point: WholePoint): void {
    this.commits++;
    this.#world.trace(
      `${at.peerId.slice(-2)} commits step ${point.step} g${at.generation} ${point.hash.slice(0, 6)}`,
    );
    this.#record(at, point);
    const ranks = this.planOf(at.jobId, at.generation)?.ranks ?? [];
    const slices = this.#slices.get(`${at.jobId}/${at.generation}/${point.step}`);
    if (at.stage !== undefined) return this.#checkStages(at, point.step);
    const missing = ranks.filter(({ peerId, heals }) => !heals && !slices?.has(peerId));
    if (missing.length > 0)
      this.#world.violate(
        "a step needs every rank",
        `${name(at)} step ${point.step} without ${missing.length} ranks`,
      );
  }

  /** The same examples have gone through all stages; a replica may have none of a small batch. */
  #checkStages(at: Place, step: number): void {
    const plan = this.planOf(at.jobId, at.generation)!;
    const slices = [...(this.#slices.get(`${at.jobId}/${at.generation}/${step}`) ?? [])];
    const through = plan.stages!.map((_, stage) => {
      const examples = slices.flatMap(([peerId, slice]) => (stageOf(plan, peerId) === stage ? slice : []));
      return examples.toSorted((a, b) => a - b).join(" ");
    });
    if (through[0] === "" || new Set(through).size > 1)
      this.#world.violate("a step needs every rank", `${name(at)} step ${step}: ${through.join(" | ")}`);
  }

  versionApplied(record: VersionRecord): void {
    const { jobId } = record.manifest.lineage;
    this.#versions.set(jobId, [...(this.#versions.get(jobId) ?? []), record]);
    if (this.#versions.get(jobId)!.length > 1)
      this.#world.violate(
        "a job registers one version",
        `${jobId} has registered ${record.manifest.name} again`,
      );
  }

  /** Whether a version of this digest is on disk. */
  isRegistered(digest: string): boolean {
    return [...this.#versions.values()].some((records) => records.some((record) => record.digest === digest));
  }

  versionsOf(jobId: string): readonly VersionRecord[] {
    return this.#versions.get(jobId) ?? [];
  }

  /**
   * Walks the lineage of a finished job back from its last step: each state must have been made by a generation, and the
   * slices of those steps must be each epoch's examples, each once.
   */
  audit(job: {
    readonly jobId: string;
    readonly end: TrainingPoint;
    readonly generation: number;
    readonly exampleCount: number;
    readonly stepsPerEpoch: number;
  }): void {
    const stages = this.planOf(job.jobId, job.generation)?.stages;
    if (!stages) return void this.#auditLineage(job, undefined);
    const lineages = new Set<string>();
    // What is registered is the model, of which no stage has a hash: each is followed from where it has ended.
    for (const stage of stages.keys()) {
      const id = idOf({ ...job, stage }, job.end.step);
      const end = this.#states.get(id);
      if (!end) return this.#world.violate("every state has an origin", `no rank has made ${id}`);
      lineages.add(this.#auditLineage({ ...job, end }, stage));
    }
    if (lineages.size > 1)
      this.#world.violate("stages belong together", `they come from ${[...lineages].join(" and ")}`);
  }

  /** @returns from which generations it comes, and where each began */
  #auditLineage(job: Parameters<Ledger["audit"]>[0], stage: number | undefined): string {
    const lineage: string[] = [];
    const used = new Map<number, number[]>();
    let { generation } = job;
    let point: TrainingPoint = job.end;
    while (point.step > 0) {
      const plan = this.planOf(job.jobId, generation);
      const start = plan && startOf(plan, stage);
      const state = this.#states.get(idOf({ ...job, generation, stage }, point.step));
      if (!start || start.step >= point.step || state?.hash !== point.hash) {
        if (--generation > 0) continue;
        this.#world.violate("every state has an origin", `no generation made ${text(point)}`);
        return "nowhere";
      }
      lineage.push(`g${generation} from step ${start.step}`);
      for (let step = point.step; step > start.step; step--) {
        const epoch = Math.floor((step - 1) / job.stepsPerEpoch);
        const ofRanks = [...(this.#slices.get(`${job.jobId}/${generation}/${step}`) ?? [])];
        const isOfStage = (peerId: string) => stage === undefined || stageOf(plan, peerId) === stage;
        const slices = ofRanks.flatMap(([peerId, examples]) => (isOfStage(peerId) ? examples : []));
        used.set(epoch, [...(used.get(epoch) ?? []), ...slices]);
      }
      point = start;
    }
    for (const [epoch, examples] of used) {
      const sorted = examples.toSorted((a, b) => a - b);
      if (sorted.length === job.exampleCount && sorted.every((example, i) => example === i)) continue;
      this.#world.violate("every example once an epoch", `epoch ${epoch} used ${sorted.join(" ")}`);
    }
    return lineage.join(", ");
  }

  #record(at: Place, point: WholePoint): void {
    const id = idOf(at, point.step);
    const known = this.#states.get(id);
    if (known && known.whole !== point.whole)
      this.#world.violate(
        "replicas are equal to the bit",
        `${name(at)} step ${point.step}: ${text(point)}, another ${text(known)}`,
      );
    this.#states.set(id, point);
  }
}

/** Where a generation begins: all of the model, or one stage of it. */
const startOf = ({ start, stages }: GenerationPlan, stage: number | undefined): TrainingPoint =>
  stage === undefined ? start : { step: start.step, hash: stages![stage]!.hash };

/** Ranks lie by stage. */
const stageOf = ({ ranks, stages }: GenerationPlan, peerId: string): number =>
  Math.floor((ranks.findIndex((rank) => rank.peerId === peerId) * stages!.length) / ranks.length);

const idOf = ({ jobId, generation, stage }: Omit<Place, "peerId">, step: number): string =>
  `${jobId}/${generation}/${step}${stage === undefined ? "" : `/stage ${stage}`}`;

const name = ({ jobId, generation, peerId }: Place): string => `${jobId} g${generation} ${peerId.slice(-2)}`;
const text = ({ step, hash }: TrainingPoint): string => `step ${step} ${hash.slice(0, 6)}`;
