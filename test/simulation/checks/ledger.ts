import { isDeepStrictEqual } from "node:util";
import type { VersionRecord } from "../../../coordinator/decide/version.ts";
import type { GenerationPlan, TrainingPoint } from "../../../protocol/messages/job.ts";
import type { World } from "../world/world.ts";

interface Place {
  readonly jobId: string;
  readonly generation: number;
  readonly peerId: string;
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
  /** By generation and step: the state after it. */
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
    const isAtStart = point.step === plan.start.step && point.hash === plan.start.hash;
    if (!isAtStart && !(heals && point.step > plan.start.step))
      this.#world.violate(
        "all ranks start alike",
        `${name(at)} is at ${text(point)}, the plan at ${text(plan.start)}`,
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
    const missing = ranks.filter(({ peerId, heals }) => !heals && !slices?.has(peerId));
    if (missing.length > 0)
      this.#world.violate(
        "a step needs every rank",
        `${name(at)} step ${point.step} without ${missing.length} ranks`,
      );
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
    const used = new Map<number, number[]>();
    let { generation } = job;
    let point: TrainingPoint = job.end;
    while (point.step > 0) {
      const start = this.planOf(job.jobId, generation)?.start;
      const state = this.#states.get(`${job.jobId}/${generation}/${point.step}`);
      if (!start || start.step >= point.step || state?.hash !== point.hash) {
        if (--generation > 0) continue;
        return this.#world.violate("every state has an origin", `no generation made ${text(point)}`);
      }
      for (let step = point.step; step > start.step; step--) {
        const epoch = Math.floor((step - 1) / job.stepsPerEpoch);
        const slices = [...(this.#slices.get(`${job.jobId}/${generation}/${step}`)?.values() ?? [])].flat();
        used.set(epoch, [...(used.get(epoch) ?? []), ...slices]);
      }
      point = start;
    }
    for (const [epoch, examples] of used) {
      const sorted = examples.toSorted((a, b) => a - b);
      if (sorted.length === job.exampleCount && sorted.every((example, i) => example === i)) continue;
      this.#world.violate("every example once an epoch", `epoch ${epoch} used ${sorted.join(" ")}`);
    }
  }

  #record(at: Place, point: WholePoint): void {
    const id = `${at.jobId}/${at.generation}/${point.step}`;
    const known = this.#states.get(id);
    if (known && known.whole !== point.whole)
      this.#world.violate(
        "replicas are equal to the bit",
        `${name(at)} step ${point.step}: ${text(point)}, another ${text(known)}`,
      );
    this.#states.set(id, point);
  }
}

const name = ({ jobId, generation, peerId }: Place): string => `${jobId} g${generation} ${peerId.slice(-2)}`;
const text = ({ step, hash }: TrainingPoint): string => `step ${step} ${hash.slice(0, 6)}`;
