import { closeSync, openSync, readSync, unlinkSync, writeSync } from "node:fs";
import type { JobSpec } from "../../protocol/job-spec.ts";
import type { ParameterSlot } from "../engine/port.ts";
import type { RingMemory } from "../ring/memory.ts";
import type { RingPort } from "../ring/port.ts";
import { type Fault, FiniteGuard } from "../training/finite-guard.ts";
import type { BucketRule } from "../training/synchronization/buckets.ts";
import { Exchange, type OpenExchange, tail } from "../training/synchronization/exchange.ts";
import type { FromScript } from "./script-messages.ts";

type Final = Extract<FromScript, { kind: "final" }>;
type Reduce = Extract<FromScript, { kind: "reduce" }>;

/** What all ranks know after the sum of a step. */
export interface StepSum {
  readonly fault: Fault | undefined;
  /** f32 [tail.length]; overwritten by the next step. */
  readonly totals: Float32Array;
  /** Parts of which no rank has a gradient. */
  readonly lacking: readonly number[];
  readonly communicationMs: number;
  readonly hiddenCommunicationMs: number;
}

/** One step's gradients on their way. */
export interface OpenSum {
  /** A bucket is there: it goes round while the script computes the rest. */
  take(message: Final, step: number): void;
  /**
   * The rest is there, with its totals.
   * @param pauseVote whether this rank asks for a pause
   * @throws RingfoldError NOT_FINITE and as `Exchange.open`; nothing is on its way any more then
   */
  complete(message: Reduce, pauseVote: boolean): Promise<StepSum>;
}

/**
 * The way of a script's gradients: shared memory -> the ring's vector -> the sum over the ring -> shared memory. In a ring of
 * one they stay with the script.
 */
export class SharedGradients {
  readonly #exchange: Exchange;
  readonly #guard: FiniteGuard;
  readonly #partCount: number;
  readonly #nowMs: () => number;
  /** Its name is gone, so that nothing stays when this process is killed. */
  readonly #file: number;

  /** @param path of the file that the script has made, f32 of all slots of `layout` */
  constructor(of: {
    readonly path: string;
    readonly spec: JobSpec;
    readonly layout: readonly ParameterSlot[];
    readonly nowMs: () => number;
    readonly bucketRule?: BucketRule | undefined;
  }) {
    const { path, spec, layout, nowMs, bucketRule } = of;
    const elementCount = layout.reduce((total, slot) => total + slot.elementCount, 0);
    this.#exchange = new Exchange(spec, elementCount, bucketRule);
    this.#guard = new FiniteGuard(spec.nonFinite, layout, this.#exchange.memory);
    this.#partCount = layout.length;
    this.#nowMs = nowMs;
    this.#file = openSync(path, "r+");
    unlinkSync(path);
  }

  get memory(): RingMemory {
    return this.#exchange.memory;
  }

  get bucketStarts(): readonly number[] {
    return this.#exchange.bucketStarts;
  }

  get skippedCount(): number {
    return this.#guard.skippedCount;
  }

  /** A new ring. */
  begin(): void {
    this.#exchange.begin();
    this.#guard.begin();
  }

  open(ring: RingPort, signal: AbortSignal): OpenSum {
    const { values, totals } = this.#exchange;
    const exchange = this.#exchange.open(ring, signal, (range) => this.#guard.takeBack(values, range));
    const busyBeforeMs = ring.busyMs;
    /** From here on the vector is on its way. */
    let end = values.length;
    return {
      take: ({ start, nonFinite }, step) => {
        if (nonFinite !== null) this.#guard.find(nonFinite, step);
        if (start >= end) return;
        this.#read(start, end);
        end = start;
        exchange.ready(start);
      },
      complete: async (message, pauseVote) => {
        const startedAtMs = this.#nowMs();
        const alone = ring.worldSize === 1;
        if (!alone) this.#read(0, end);
        this.#fillTotals(message, pauseVote);
        await this.#completed(exchange);
        const communicationMs = this.#nowMs() - startedAtMs;
        const round = { ring, values, totals, step: message.step };
        const fault = await this.#guard.judge(round, signal);
        const isUsed = !alone && !fault;
        const lacking =
          isUsed && totals[lackingRanks]! > 0 ? await this.#lackedByAll(message, ring, signal) : [];
        if (isUsed) this.#write();
        const hiddenCommunicationMs = Math.max(0, ring.busyMs - busyBeforeMs - communicationMs);
        return {
          fault,
          totals,
          lacking,
          communicationMs: this.#nowMs() - startedAtMs,
          hiddenCommunicationMs,
        };
      },
    };
  }

  close(): void {
    closeSync(this.#file);
  }

  #completed(exchange: OpenExchange): Promise<void> {
    return exchange.complete(() => this.#guard.vote(this.#exchange.totals));
  }

  #fillTotals(message: Reduce, pauseVote: boolean): void {
    const { totals } = this.#exchange;
    const { lossSum, correctCount, exampleCount } = message.totals;
    totals.fill(0);
    totals[tail.lossSum] = lossSum;
    totals[tail.correctCount] = correctCount;
    totals[tail.exampleCount] = exampleCount;
    totals[tail.targetCount] = exampleCount;
    totals[tail.lossWeight] = exampleCount;
    totals[tail.pauseVotes] = pauseVote ? 1 : 0;
    totals[lackingRanks] = message.lacking.length > 0 ? 1 : 0;
    if (message.nonFinite !== null) this.#guard.find(message.nonFinite, message.step);
  }

  /** One small all-reduce, in steps in which some rank lacks a gradient; all come to the same answer. */
  async #lackedByAll({ lacking }: Reduce, ring: RingPort, signal: AbortSignal): Promise<number[]> {
    const counts = new Float32Array(this.#partCount);
    for (const part of lacking) counts[part] = 1;
    await ring.allReduce(counts, signal);
    return [...counts.keys()].filter((part) => counts[part] === ring.worldSize);
  }

  #read(start: number, end: number): void {
    const bytes = this.#bytes(start, end);
    readSync(this.#file, bytes, 0, bytes.length, 4 * start);
  }

  #write(): void {
    const bytes = this.#bytes(0, this.#exchange.values.length);
    writeSync(this.#file, bytes, 0, bytes.length, 0);
  }

  #bytes(start: number, end: number): Uint8Array {
    const { buffer, byteOffset } = this.#exchange.values;
    return new Uint8Array(buffer, byteOffset + 4 * start, 4 * (end - start));
  }
}

/** A script fetches its data itself, so that no rank is late by ours: ranks that lack a gradient are counted in that place. */
const lackingRanks = tail.lateVotes;
