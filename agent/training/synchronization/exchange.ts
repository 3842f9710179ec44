import type { JobSpec, Wire } from "../../../protocol/job-spec.ts";
import { RingMemory } from "../../ring/memory.ts";
import type { Ring } from "../../ring/ring.ts";
import { addSparse, encodeSparse, sparseBytes } from "./sparse.ts";
import { entryCount, takeLargest } from "./top-k.ts";

/** What rides at the end of the vector, as f32 whatever the wire. */
export const tail = {
  ...{ lossSum: 0, correctCount: 1, exampleCount: 2, pauseVotes: 3 },
  /** Ranks that have healed since the ring was formed. */
  healedCount: 4,
  /** Ranks whose own numbers were not finite. */
  nonFiniteVotes: 5,
  /** What the gradient is divided by: examples, or tokens that are no padding. */
  targetCount: 6,
  /** Ranks whose state says that the training has stopped early. */
  stopVotes: 7,
  /** Over the held-out set with the state before this round; zeros where it is not evaluated. */
  ...{ heldOutLossSum: 8, heldOutCorrectCount: 9, heldOutTargetCount: 10, heldOutExampleCount: 11 },
  /** Ranks that have not yet the data of their next step. */
  lateVotes: 12,
  length: 13,
} as const;

/** The vector that the ranks sum, in the way that the job asks for, with error feedback where something is left out. */
export class Exchange {
  /** Of every ring of this job, one after the other: the vector lies in it. */
  readonly memory: RingMemory;
  /** f32 [parameterCount]. */
  readonly values: Float32Array<ArrayBuffer>;
  /** f32 [tail.length]. */
  readonly totals: Float32Array<ArrayBuffer>;
  readonly #vector: Float32Array<ArrayBuffer>;
  /** What this rank has not sent yet: rounded off, or not among the largest. */
  readonly #residual: Float32Array<ArrayBuffer> | undefined;
  readonly #wire: Wire;
  /** Elements that travel; undefined for all of them. */
  readonly #entryCount: number | undefined;

  constructor({ wire, topK }: Pick<JobSpec, "wire" | "topK">, parameterCount: number) {
    const isLossy = wire !== "f32" || topK !== undefined;
    this.memory = new RingMemory({
      elementCount: parameterCount + tail.length + (isLossy ? parameterCount : 0),
    });
    this.#vector = this.memory.allocate(parameterCount + tail.length);
    this.values = this.#vector.subarray(0, parameterCount);
    this.totals = this.#vector.subarray(parameterCount);
    this.#residual = isLossy ? this.memory.allocate(parameterCount) : undefined;
    this.#wire = wire;
    this.#entryCount = topK && entryCount(topK.fraction, parameterCount);
  }

  /** A residual belongs to its ring: after a broken operation nobody knows what of it has been made up for. */
  begin(): void {
    this.#residual?.fill(0);
  }

  /**
   * Sums `values` and `totals` over all ranks, in place, to the same bits on each.
   * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | MESSAGE_INVALID | CANCELLED
   */
  async sum(ring: Ring, signal: AbortSignal): Promise<void> {
    if (this.#entryCount !== undefined && ring.worldSize > 1)
      return this.#sumLargest(ring, signal, this.#entryCount);
    await ring.allReduce(this.#vector, signal, {
      wire: this.#wire,
      exactTail: tail.length,
      ...(this.#residual ? { residual: this.#residual } : {}),
    });
  }

  /**
   * Top-k with error feedback; an all-gather, as the ranks' largest elements stand at different places.
   * Sources: Stich et al., "Sparsified SGD with memory", 2018; Lin et al., "Deep gradient compression", 2018.
   */
  async #sumLargest(ring: Ring, signal: AbortSignal, count: number): Promise<void> {
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
