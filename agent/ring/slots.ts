import assert from "node:assert";
import type { DownstreamLink } from "./link.ts";
import { type RingMemory, slotHeadroomBytes } from "./memory.ts";

/**
 * Where the segments of one operation leave from. The lowest free slot is taken: it was used last, so it is in the cache,
 * and slots that lie side by side leave in one write. Links send in order, so a slot is free when its segment is not among
 * the last `pendingCount` ones.
 */
export class Slots {
  readonly #memory: RingMemory;
  readonly #stride: number;
  /** By slot: the number of the segment that was last in it. */
  readonly #sent: Float64Array;
  #nextNumber = 0;

  /** @param of.window one slot more: with no more than a window pending there is always a free one */
  constructor(
    memory: RingMemory,
    { payloadBytesMax, window }: { readonly payloadBytesMax: number; readonly window: number },
  ) {
    this.#memory = memory;
    // Full frames lie without a gap between them.
    this.#stride = slotHeadroomBytes + 64 * Math.ceil(payloadBytesMax / 64);
    assert((window + 1) * this.#stride <= memory.slots.bytes);
    this.#sent = new Float64Array(window + 1).fill(-1);
  }

  /** A place for the payload of the segment that is sent next, to `link`. */
  next({ pendingCount }: Pick<DownstreamLink, "pendingCount">): number {
    // A frame from before this operation, such as the hello, may be pending too.
    const pendingFrom = Math.max(0, this.#nextNumber - pendingCount);
    let slot = 0;
    while (this.#sent[slot]! >= pendingFrom) slot++;
    assert(slot < this.#sent.length, "no more than a window waits to leave");
    this.#sent[slot] = this.#nextNumber++;
    return this.#memory.slots.pointer + slot * this.#stride + slotHeadroomBytes;
  }
}
