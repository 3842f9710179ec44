import type { JobSpec } from "../../protocol/job-spec.ts";
import type { RingPort } from "../ring/port.ts";
import type { Place } from "./sampler.ts";

/** The fastest rank's weight: fine enough to tell speeds apart, and exact in any sum. */
const weightMax = 1_024;
/** New shares must make a step so much shorter, or all stay with those that they have. */
const gainMin = 1.1;
/** Rounds between two looks at the speeds, once they are known; before, at 1, 2, 4, 8 and so on. */
const roundsBetween = 64;
/** Of a newly measured speed, beside what was known. */
const newShare = 0.5;

/**
 * How the ranks of a ring share the global batch: even parts, or parts by measured speed, so that all are done at the same time.
 * Every rank tells its speed in a tiny all-reduce at rounds that all know, and computes the same shares from the same numbers.
 */
export class BatchShares {
  readonly #spec: Pick<JobSpec, "batchSize" | "batchShares">;
  /** By place among those who contribute; undefined for even parts. */
  #weights: readonly number[] | undefined;
  #rounds = 0;
  #measured = { examples: 0, ms: 0 };
  /** The first gradient of a process compiles what the others run. */
  #isWarm = false;
  /** Examples a millisecond, from the first ring to the last; 0 before anything was measured. */
  #speed = 0;

  constructor(spec: Pick<JobSpec, "batchSize" | "batchShares">) {
    this.#spec = spec;
  }

  /** Other ranks contribute from now on. */
  begin(): void {
    this.#weights = undefined;
    this.#rounds = 0;
  }

  /** After a slice of this rank. */
  observe(examples: number, ms: number): void {
    if (this.#isWarm) {
      this.#measured.examples += examples;
      this.#measured.ms += ms;
    }
    this.#isWarm ||= examples > 0;
  }

  /** The place with what it takes of a batch. */
  of(place: Place): Place {
    return { ...place, weights: this.#weights };
  }

  /** In per mille of a batch, by place; undefined while parts are even. */
  get perMille(): readonly number[] | undefined {
    const total = this.#weights?.reduce((sum, weight) => sum + weight, 0);
    return this.#weights?.map((weight) => Math.round((1_000 * weight) / total!));
  }

  /**
   * Before each round: all ranks of the ring come to the same shares. At most rounds it does nothing; else it costs one
   * all-reduce of a number a rank.
   * @param contributes false on a rank that still heals: it has no place
   * @throws as `ring.allReduce`
   */
  async agree(ring: RingPort, contributes: boolean, signal: AbortSignal): Promise<void> {
    const round = this.#rounds++;
    const isDue = round % roundsBetween === 0 || (round < roundsBetween && (round & (round - 1)) === 0);
    if (this.#spec.batchShares === "even" || ring.worldSize === 1 || !isDue) return;
    this.#takeMeasure();
    const speeds = new Float32Array(ring.worldSize);
    if (contributes) speeds[ring.rank] = this.#speed || unknown;
    await ring.allReduce(speeds, signal);
    this.#weights = newWeights(
      speeds.filter((speed) => speed !== 0),
      this.#weights,
      this.#spec.batchSize,
    );
  }

  #takeMeasure(): void {
    const { examples, ms } = this.#measured;
    if (examples === 0 || ms === 0) return;
    const speed = examples / ms;
    this.#speed = this.#speed === 0 ? speed : newShare * speed + (1 - newShare) * this.#speed;
    this.#measured = { examples: 0, ms: 0 };
  }
}

/** Of a rank that contributes, but has computed nothing yet. */
const unknown = -1;

/**
 * @param speeds of those who contribute, by place
 * @param current undefined for even parts
 * @returns what to share by from now on; undefined for even parts
 */
export function newWeights(
  speeds: Float32Array,
  current: readonly number[] | undefined,
  batchSize: number,
): readonly number[] | undefined {
  if (speeds.length === 0 || speeds.some((speed) => speed < 0)) return undefined;
  const fastest = Math.max(...speeds);
  const wanted = [...speeds].map((speed) => Math.max(1, Math.round((weightMax * speed) / fastest)));
  // A rank without an example would never be measured again.
  const least = Math.ceil(sumOf(wanted) / batchSize);
  const weights = wanted.map((weight) => Math.max(weight, least));
  const before = stepTime(speeds, current ?? speeds.map(() => 1));
  return before / stepTime(speeds, weights) >= gainMin ? weights : current;
}

/** Of the rank that is done last, in no particular unit. */
function stepTime(speeds: Float32Array, weights: ArrayLike<number>): number {
  const total = sumOf(Array.from(weights));
  return Math.max(...Array.from(speeds, (speed, place) => weights[place]! / total / speed));
}

const sumOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0);
