import type { Target } from "../../../protocol/data-schema.ts";
import type { JobSpec, Wire } from "../../../protocol/job-spec.ts";
import type { ElementRange } from "../../ring/chunks.ts";
import { RingMemory } from "../../ring/memory.ts";
import type { RingPort } from "../../ring/port.ts";
import { type BucketRule, bucketsOf } from "./buckets.ts";
import { addSparse, encodeSparse, sparseBytes } from "./sparse.ts";
import { entryCount, takeLargest } from "./top-k.ts";

/** Sums over held-out examples, as they travel: f32, exact for counts below 2^24. */
export const heldOutSums = {
  ...{ lossSum: 0, correctCount: 1, targetCount: 2, exampleCount: 3 },
  /** As in `BatchResult` and `EvaluationResult`. */
  ...{ lossWeight: 4, plainLossSum: 5 },
  length: 6,
} as const;

/** What rides at the end of the vector, as f32 whatever the wire. */
export const tail = {
  ...{ lossSum: 0, correctCount: 1, exampleCount: 2, pauseVotes: 3 },
  /** Ranks that have healed since the ring was formed. */
  healedCount: 4,
  /** Ranks whose own numbers were not finite. */
  nonFiniteVotes: 5,
  /** Examples, or tokens that are no padding. */
  targetCount: 6,
  /** Ranks whose state says that the training has stopped early. */
  stopVotes: 7,
  /** Ranks that have not yet the data of their next step. */
  lateVotes: 8,
  /** What the gradient is divided by: the targets that count, or the sum of their weights. */
  lossWeight: 9,
  /** Of the held-out set with the state before this round, as `heldOutSums` has them; zeros where it is not evaluated. */
  heldOut: 10,
  length: 10 + heldOutSums.length,
} as const;

/** @param totals f32 [tail.length], summed over the ranks */
export function meansOf(totals: Float32Array, target: Target) {
  const lossWeight = divisorOf(totals[tail.lossWeight]!);
  return {
    ...{ examples: totals[tail.exampleCount]!, lossWeight, loss: totals[tail.lossSum]! / lossWeight },
    accuracy:
      target.kind === "number" ? null : totals[tail.correctCount]! / divisorOf(totals[tail.targetCount]!),
  };
}

/** Targets that are all padding, or weigh nothing, teach nothing, and are no division by zero. */
export const divisorOf = (weight: number): number => (weight > 0 ? weight : 1);

/** One exchange under way. */
export interface OpenExchange {
  /** The values from `start` on will not change any more: what is whole of them may go round. */
  ready(start: number): void;
  /** Everything is final, and the totals are set by `seal`; settles when the sums are there. @throws as `Exchange.sum` */
  complete(seal: () => void): Promise<void>;
}

/**
 * The vector that the ranks sum, in the way that the job asks for, with error feedback where something is left out. It goes
 * round in buckets, from its end, each as soon as it is final: the ring is at work while the rest is computed. The totals
 * ride behind the last of them.
 */
export class Exchange {
  /** Of every ring of this job, one after the other: the vector lies in it. */
  readonly memory: RingMemory;
  /** f32 [parameterCount]. */
  readonly values: Float32Array;
  /** f32 [tail.length]. */
  readonly totals: Float32Array;
  /** In the order of their sums. */
  readonly #buckets: readonly ElementRange[];
  /** The last bucket and the totals; where it is the only one, the values themselves and the totals behind them. */
  readonly #last: Float32Array;
  /** What this rank has not sent yet: rounded off, or not among the largest. */
  readonly #residual: Float32Array | undefined;
  readonly #wire: Wire;
  /** Elements that travel; undefined for all of them. */
  readonly #entryCount: number | undefined;

  /** @param rule must be the same on all ranks */
  constructor(
    { wire, topK, overlap, synchronization }: Pick<JobSpec, "wire" | "topK" | "overlap" | "synchronization">,
    parameterCount: number,
    rule?: BucketRule,
  ) {
    const isLossy = wire !== "f32" || topK !== undefined;
    // What is summed at a synchronization point of local steps, or chosen of the whole, is final all at once.
    const isWhole = overlap === "never" || topK !== undefined || synchronization.kind !== "every-step";
    this.#buckets = isWhole ? [{ start: 0, end: parameterCount }] : bucketsOf(parameterCount, rule);
    const last = this.#buckets.at(-1)!.end + tail.length;
    const isSplit = this.#buckets.length > 1;
    this.memory = new RingMemory({
      elementCount: last + (isSplit ? parameterCount : 0) + (isLossy ? parameterCount : 0),
    });
    this.#last = this.memory.allocate(last);
    this.values = isSplit ? this.memory.allocate(parameterCount) : this.#last.subarray(0, parameterCount);
    this.totals = this.#last.subarray(-tail.length);
    this.#residual = isLossy ? this.memory.allocate(parameterCount) : undefined;
    this.#wire = wire;
    this.#entryCount = topK && entryCount(topK.fraction, parameterCount);
  }

  /** Whether it helps to say early what is final. */
  get isSplit(): boolean {
    return this.#buckets.length > 1;
  }

  /** Where each bucket begins, in the order of their sums; the last one at 0. */
  get bucketStarts(): readonly number[] {
    return this.#buckets.map(({ start }) => start);
  }

  /** A residual belongs to its ring: after a broken operation nobody knows what of it has been made up for. */
  begin(): void {
    this.#residual?.fill(0);
  }

  /**
   * Begins to sum `values` and `totals` over all ranks, in place, to the same bits on each.
   * @param inspect looks at a bucket before it leaves, and may change it
   * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | MESSAGE_INVALID | CANCELLED, of the exchange when it is completed
   */
  open(ring: RingPort, signal: AbortSignal, inspect: (bucket: ElementRange) => void): OpenExchange {
    const operations: Promise<void>[] = [];
    const begin = (operation: Promise<void>) => {
      operation.catch(() => undefined); // heard of on completion
      operations.push(operation);
    };
    const ready = (start: number) => {
      for (let next = this.#buckets[operations.length]!; next.start >= start && next.start > 0; ) {
        inspect(next);
        begin(this.#reduce(ring, this.values.subarray(next.start, next.end), signal, next));
        next = this.#buckets[operations.length]!;
      }
    };
    const complete = async (seal: () => void) => {
      ready(1);
      inspect(this.#buckets.at(-1)!);
      seal();
      begin(this.#sumLast(ring, signal));
      const outcomes = await Promise.allSettled(operations);
      const failure = outcomes.find((outcome) => outcome.status === "rejected");
      if (failure) throw failure.reason;
    };
    return { ready, complete };
  }

  /** The last bucket and the totals. */
  async #sumLast(ring: RingPort, signal: AbortSignal): Promise<void> {
    if (ring.worldSize === 1) return;
    if (this.#entryCount !== undefined) return this.#sumLargest(ring, signal, this.#entryCount);
    const bucket = this.#buckets.at(-1)!;
    const { copy } = this.memory.kernels;
    const { byteOffset } = this.values;
    if (this.isSplit) copy(this.#last.byteOffset, byteOffset, 4 * bucket.end);
    await this.#reduce(ring, this.#last, signal, bucket, tail.length);
    if (this.isSplit) copy(byteOffset, this.#last.byteOffset, 4 * bucket.end);
  }

  #reduce(
    ring: RingPort,
    vector: Float32Array,
    signal: AbortSignal,
    { start, end }: ElementRange,
    exactTail = 0,
  ): Promise<void> {
    const residual = this.#residual?.subarray(start, end);
    return ring.allReduce(vector, signal, { wire: this.#wire, exactTail, ...(residual ? { residual } : {}) });
  }

  /**
   * Top-k with error feedback; an all-gather, as the ranks' largest elements stand at different places.
   * Sources: Stich et al., "Sparsified SGD with memory", 2018; Lin et al., "Deep gradient compression", 2018.
   */
  async #sumLargest(ring: RingPort, signal: AbortSignal, count: number): Promise<void> {
    const { values, totals } = this;
    const residual = this.#residual!;
    for (let i = 0; i < values.length; i++) residual[i]! += values[i]!;
    const payload = encodeSparse(totals, takeLargest(residual, count));
    const payloads = await ring.allGather(payload, signal, {
      payloadBytesMax: sparseBytes({ totalCount: totals.length, entryCount: count }),
    });
    values.fill(0);
    totals.fill(0);
    // In the order of ranks, which is the same everywhere: f32 sums depend on it.
    for (const [rank, received] of payloads.entries()) addSparse(received, { rank, count, values, totals });
  }
}
