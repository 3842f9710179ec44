import assert from "node:assert";
import { RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import { wasmPageBytes } from "./kernels/compiled-kernels.ts";
import { openKernels, type RingKernels } from "./kernels/module.ts";

/** Every part starts at a multiple of a cache line: a receive buffer that does not can cost 2.5 times (MEASURED, C). */
const alignment = 64;
const align = (bytes: number): number => Math.ceil(bytes / alignment) * alignment;

/** Bytes 0 to 1023 belong to the int8 kernel. */
const kernelScratchBytes = 1_024;
/** The largest memory that WebAssembly addresses with 32 bits. */
const memoryBytesMax = 65_536 * wasmPageBytes;

/** Ahead of each slot's payload: the frame header of the socket goes there, so that a frame leaves in one write. */
export const slotHeadroomBytes = 64;

/**
 * What one rank's ring works in: the vectors it sums, the slots that segments leave from, the region they arrive in.
 * One WebAssembly memory of a fixed size, as growing would detach every view. It outlives a ring: the next
 * generation's ring takes it over.
 */
export class RingMemory {
  readonly kernels: RingKernels;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** For the socket to receive into. */
  readonly receiveRegion: Uint8Array<ArrayBuffer>;
  /** Where a segment goes that arrived anywhere else. */
  readonly staging: number;
  /** Slots lie side by side, so that neighbours can leave in one write. */
  readonly slots: { readonly pointer: number; readonly bytes: number };
  #free: number;
  readonly #end: number;

  /**
   * @param options.elementCount f32 elements that `allocate` can give, over all calls
   * @throws RingfoldError JOB_INVALID when that is more than 4 GB
   */
  constructor(options: {
    readonly elementCount: number;
    readonly window?: number;
    readonly segmentBytes?: number;
    readonly receiveBytes?: number;
  }) {
    const segmentBytes = align(options.segmentBytes ?? limits.segmentBytes);
    const stagingBytes = align(options.segmentBytes ?? limits.segmentBytesPlain);
    const slotBytes = ((options.window ?? limits.segmentWindow) + 1) * (slotHeadroomBytes + segmentBytes);
    const receiveBytes = align(options.receiveBytes ?? limits.receiveRegionBytes);
    // Up to 16 calls: each is rounded up to a line.
    const vectorBytes = align(4 * options.elementCount) + 16 * alignment;
    const totalBytes = kernelScratchBytes + slotBytes + receiveBytes + stagingBytes + vectorBytes;
    if (totalBytes > memoryBytesMax) {
      throw new RingfoldError("JOB_INVALID", "the gradient of this model is more than 4 GB", {
        bytes: totalBytes,
        bytesMax: memoryBytesMax,
      });
    }
    const { buffer, kernels } = openKernels(Math.ceil(totalBytes / wasmPageBytes));
    this.kernels = kernels;
    this.bytes = new Uint8Array(buffer);
    let next = kernelScratchBytes;
    const take = (bytes: number): number => {
      next += bytes;
      return next - bytes;
    };
    this.slots = { pointer: take(slotBytes), bytes: slotBytes };
    this.receiveRegion = new Uint8Array(buffer, take(receiveBytes), receiveBytes);
    this.staging = take(stagingBytes);
    this.#free = next;
    this.#end = next + vectorBytes;
  }

  /** Zeros. There is no way to give them back: whoever allocates keeps them as long as the memory. */
  allocate(elementCount: number): Float32Array<ArrayBuffer> {
    const pointer = this.#free;
    this.#free += align(4 * elementCount);
    assert(this.#free <= this.#end, "more elements than the memory was made for");
    return new Float32Array(this.bytes.buffer, pointer, elementCount);
  }

  owns(array: ArrayBufferView): boolean {
    return array.buffer === this.bytes.buffer;
  }
}
