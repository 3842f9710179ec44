import assert from "node:assert";
import { RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import { openSharedMemory, type SharedMemory, wasmPageBytes } from "./kernels/compiled-kernels.ts";
import { openKernels, type RingKernels } from "./kernels/module.ts";

/** Every part starts at a multiple of a cache line: a receive buffer that does not can cost 2.5 times (MEASURED, C). */
const alignment = 64;
const align = (bytes: number): number => Math.ceil(bytes / alignment) * alignment;

/** Bytes 0 to 1023 belong to the int8 kernel. */
const kernelScratchBytes = 1_024;
/** The largest memory that WebAssembly addresses with 32 bits. */
const memoryBytesMax = 65_536 * wasmPageBytes;

/** Ahead of each slot's payload: the frame header of the socket goes there, so that a frame leaves in one write. */
export const slotHeadroomBytes = limits.frameHeaderBytes;

export interface RingMemoryOptions {
  /** f32 elements that `allocate` can give, over all calls. */
  readonly elementCount: number;
  /** For slots of just so many segments, and one; of the widest window that a plan can have unless told. */
  readonly window?: number;
  readonly segmentBytes?: number;
  readonly receiveBytes?: number;
}

/** A vector of a shared memory, the same in every thread. */
export type VectorPlace = Pick<Float32Array, "byteOffset" | "length">;

/** What a message to another thread carries of a memory: both threads then work in the same bytes. */
export interface SharedRingMemory {
  readonly memory: SharedMemory;
  readonly options: RingMemoryOptions;
}

/**
 * What one rank's ring works in: the vectors it sums, the slots that segments leave from, the region they arrive in.
 * One WebAssembly memory of a fixed size, as growing would detach every view. It outlives a ring: the next
 * generation's ring takes it over.
 */
export class RingMemory {
  readonly kernels: RingKernels;
  readonly bytes: Uint8Array;
  /** For the socket to receive into. */
  readonly receiveRegion: Uint8Array;
  /** Where a segment goes that arrived anywhere else. */
  readonly staging: number;
  /** Slots lie side by side, so that neighbours can leave in one write. */
  readonly slots: { readonly pointer: number; readonly bytes: number };
  /** For another thread; whoever trains allocates and writes, whoever has the ring sums, never both at a time. */
  readonly shared: SharedRingMemory;
  #free: number;
  readonly #end: number;

  /**
   * @param known of another thread, whose vectors this memory then sees; new and zeros unless told
   * @throws RingfoldError JOB_INVALID when vectors, slots and receive region together would be more than 4 GiB
   */
  constructor(options: RingMemoryOptions, known?: SharedMemory) {
    const { window } = options;
    const segmentBytes = align(options.segmentBytes ?? limits.segmentBytesPlain);
    const slotBytes =
      window === undefined ? limits.slotBytesMax : (window + 1) * (slotHeadroomBytes + segmentBytes);
    const receiveBytes = align(options.receiveBytes ?? limits.receiveRegionBytes);
    // Up to 16 calls: each is rounded up to a line.
    const vectorBytes = align(4 * options.elementCount) + 16 * alignment;
    const totalBytes = kernelScratchBytes + slotBytes + receiveBytes + segmentBytes + vectorBytes;
    if (totalBytes > memoryBytesMax) {
      const gigabytes = (totalBytes / 2 ** 30).toFixed(1);
      const message = `a rank's ring would need ${gigabytes} GiB of its memory of 4 GiB, for the gradient, the copy of its last bucket and, with a lossy wire or top-k, what that leaves out, which is as long as the gradient`;
      throw new RingfoldError("JOB_INVALID", message, {
        ...{ bytes: totalBytes, bytesMax: memoryBytesMax },
        remedy: "Cut the model into `stages`; `wire: f32` without `topK` leaves nothing out to remember.",
      });
    }
    const memory = known ?? openSharedMemory(Math.ceil(totalBytes / wasmPageBytes));
    const { buffer } = memory;
    this.shared = { memory, options };
    this.kernels = openKernels(memory);
    this.bytes = new Uint8Array(buffer);
    let next = kernelScratchBytes;
    const take = (bytes: number): number => {
      next += bytes;
      return next - bytes;
    };
    this.slots = { pointer: take(slotBytes), bytes: slotBytes };
    this.receiveRegion = new Uint8Array(buffer, take(receiveBytes), receiveBytes);
    this.staging = take(segmentBytes);
    this.#free = next;
    this.#end = next + vectorBytes;
  }

  /** Zeros. There is no way to give them back: whoever allocates keeps them as long as the memory. */
  allocate(elementCount: number): Float32Array {
    const pointer = this.#free;
    this.#free += align(4 * elementCount);
    assert(this.#free <= this.#end, "more elements than the memory was made for");
    return new Float32Array(this.bytes.buffer, pointer, elementCount);
  }

  /** The vector that another thread has allocated. */
  vectorAt({ byteOffset, length }: VectorPlace): Float32Array {
    return new Float32Array(this.bytes.buffer, byteOffset, length);
  }

  /** @param vector of this memory, or a part of one */
  isFinite(vector: Float32Array): boolean {
    assert(this.owns(vector));
    return this.kernels.allFinite(vector.byteOffset, vector.length) === 1;
  }

  owns(array: ArrayBufferView): boolean {
    return array.buffer === this.bytes.buffer;
  }
}
