import { RingfoldError } from "../../protocol/errors.ts";
import type { JobSpec } from "../../protocol/job-spec.ts";
import { limits } from "../../protocol/limits.ts";
import type { ParameterSlot } from "../engine/port.ts";
import type { ElementRange } from "../ring/chunks.ts";
import type { RingMemory } from "../ring/memory.ts";
import type { RingPort } from "../ring/port.ts";
import { tail } from "./synchronization/exchange.ts";

/** What on this rank was not finite first: an index into the layout, or the loss after the last of them. */
interface Finding {
  readonly place: number;
  readonly step: number;
}

/** What all ranks know of a round whose numbers cannot be used. */
export interface Fault {
  /** Of the lowest rank that is to blame; null when every rank's numbers are finite and only their sum is not. */
  readonly rank: number | null;
  /** For example `conv_1/kernel`, or `loss`. */
  readonly parameter: string;
  readonly step: number;
  /** One sentence with all of that. */
  readonly message: string;
}

/**
 * NaN and infinity. A rank that finds them in its own numbers sends zeros and a vote in their place: they would poison
 * what lossy wires remember, and from the sum nobody could tell whose they were. As the votes are summed with the
 * gradient, all ranks decide the same: stop, or leave the round out.
 */
export class FiniteGuard {
  readonly #policy: JobSpec["nonFinite"];
  readonly #layout: readonly ParameterSlot[];
  readonly #memory: Pick<RingMemory, "isFinite">;
  #finding: Finding | undefined;
  /** Since this ring was formed, so that it is the same on every rank. */
  #skippedInRow = 0;
  /** Rounds that were left out since this trainer started. */
  skippedCount = 0;

  /** @param memory in which the values lie */
  constructor(
    policy: JobSpec["nonFinite"],
    layout: readonly ParameterSlot[],
    memory: Pick<RingMemory, "isFinite">,
  ) {
    this.#policy = policy;
    this.#layout = layout;
    this.#memory = memory;
  }

  /** A new ring. */
  begin(): void {
    this.#finding = undefined;
    this.#skippedInRow = 0;
  }

  /**
   * Looks at this rank's numbers; the first step of a round with a finding stays, and its first place. Cost: one pass.
   * @param values f32 [parameterCount]
   * @param range of them
   * @returns whether the round can still be used
   */
  inspect(values: Float32Array, step: number, range = { start: 0, end: values.length }): boolean {
    this.#note(this.#firstPlace(values, range), step);
    return this.#finding === undefined;
  }

  /** What a script has found in its own numbers. @param name of a parameter, or `loss` */
  find(name: string, step: number): void {
    const place = this.#layout.findIndex((slot) => slot.name === name);
    this.#finding ??= { place: place === -1 ? this.#layout.length : place, step };
  }

  inspectLoss(loss: number, step: number): void {
    if (!Number.isFinite(loss)) this.#note(this.#layout.length, step);
  }

  #note(place: number | undefined, step: number): void {
    if (place === undefined) return;
    const known = this.#finding;
    if (!known || (known.step === step && place < known.place)) this.#finding = { place, step };
  }

  /** Before a part of the values is summed: a rank that found something takes back what the others do not have yet. */
  takeBack(values: Float32Array, { start, end }: ElementRange): void {
    if (this.#finding) values.fill(0, start, end);
  }

  /** Before the totals are summed: a rank that found something says so. */
  vote(totals: Float32Array): void {
    totals[tail.nonFiniteVotes] = this.#finding ? 1 : 0;
    if (!this.#finding) return;
    const { lossSum, correctCount, targetCount, lossWeight, exampleCount } = tail;
    for (const place of [lossSum, correctCount, targetCount, lossWeight, exampleCount]) totals[place] = 0;
  }

  /**
   * After the sum; every rank comes to the same answer. Costs one small all-reduce where somebody voted.
   * @returns why the round is to be left out, or undefined
   * @throws RingfoldError NOT_FINITE by the policy, or after too many in a row; and as `ring.allReduce`
   */
  async judge(
    round: {
      readonly ring: RingPort;
      readonly values: Float32Array;
      readonly totals: Float32Array;
      readonly step: number;
    },
    signal: AbortSignal,
  ): Promise<Fault | undefined> {
    const { ring, values, totals, step } = round;
    const fault =
      totals[tail.nonFiniteVotes]! > 0
        ? await this.#culprit(ring, signal)
        : this.#overflow(ring.worldSize === 1 ? alone : values, totals[tail.lossSum]!, step);
    this.#finding = undefined;
    if (!fault) {
      this.#skippedInRow = 0;
      return undefined;
    }
    const { rank, parameter } = fault;
    const data = { rank, parameter, step: fault.step };
    if (this.#policy === "stop") throw new RingfoldError("NOT_FINITE", fault.message, data);
    this.skippedCount++;
    if (++this.#skippedInRow > limits.skippedInRowMax) {
      const message = `${fault.message}, and ${limits.skippedInRowMax} updates before it were skipped`;
      throw new RingfoldError("NOT_FINITE", message, data);
    }
    return fault;
  }

  /** Asks all ranks what they found: a place and a step each, as f32, exact below 2^24. */
  async #culprit(ring: RingPort, signal: AbortSignal): Promise<Fault> {
    const findings = new Float32Array(2 * ring.worldSize);
    if (this.#finding) {
      findings[2 * ring.rank] = this.#finding.place + 1;
      findings[2 * ring.rank + 1] = this.#finding.step;
    }
    await ring.allReduce(findings, signal);
    const ranks = Array.from({ length: ring.worldSize }, (_, rank) => rank).filter(
      (rank) => findings[2 * rank]! > 0,
    );
    const rank = ranks[0]!;
    const parameter = this.#nameOf(findings[2 * rank]! - 1);
    const step = findings[2 * rank + 1]!;
    const others = ranks.length > 1 ? ` and on ${ranks.length - 1} more` : "";
    return {
      ...{ rank, parameter, step },
      message: `${described(parameter)} is not finite on rank ${rank}${others} at step ${step}`,
    };
  }

  #overflow(sums: Float32Array, lossSum: number, step: number): Fault | undefined {
    const lossPlace = Number.isFinite(lossSum) ? undefined : this.#layout.length;
    const place = this.#firstPlace(sums, { start: 0, end: sums.length }) ?? lossPlace;
    if (place === undefined) return undefined;
    const parameter = this.#nameOf(place);
    const message = `${described(parameter)} is finite on each rank at step ${step}, but their sum is not`;
    return { rank: null, parameter, step, message };
  }

  /** Index of the first parameter with a number in `range` that is none. */
  #firstPlace(values: Float32Array, { start, end }: ElementRange): number | undefined {
    if (start === end || this.#memory.isFinite(values.subarray(start, end))) return undefined;
    return this.#layout.findIndex(({ offset, elementCount }) =>
      values
        .subarray(Math.max(start, offset), Math.min(end, offset + elementCount))
        .some((value) => !Number.isFinite(value)),
    );
  }

  #nameOf(place: number): string {
    return this.#layout[place]?.name ?? "loss";
  }
}

/** Of a ring of one: what its rank has looked at before the sum is the sum. */
const alone = new Float32Array(0);

const described = (parameter: string): string =>
  parameter === "loss" ? "the loss" : `the gradient of ${parameter}`;
