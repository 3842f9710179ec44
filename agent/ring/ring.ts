import assert from "node:assert";
import { RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import {
  chunkRange,
  type ElementRange,
  receivedChunkIndex,
  segmentCount,
  segmentRange,
  stageCount,
} from "./chunks.ts";
import type { DownstreamLink, Segment, UpstreamLink } from "./link.ts";

export interface RingOptions {
  readonly rank: number;
  readonly worldSize: number;
  /** Absent in a world of one. */
  readonly links?: { readonly upstream: UpstreamLink; readonly downstream: DownstreamLink };
  readonly segmentBytes?: number;
  /** First-stage segments that may circulate at once; at least 2. */
  readonly window?: number;
}

/**
 * One rank's end of a ring for the length of one generation.
 *
 * When an operation throws, the ring is dead: both links are destroyed, so the news runs round the ring in both
 * directions at the speed of a closing socket, and a new generation must be agreed.
 */
export class Ring {
  readonly rank: number;
  readonly worldSize: number;
  readonly #links: RingOptions["links"];
  readonly #segmentElements: number;
  readonly #window: number;
  #operation = 0;
  #busy = false;

  constructor(options: RingOptions) {
    assert(options.worldSize === 1 || options.links, "a ring of several needs links");
    assert(options.rank >= 0 && options.rank < options.worldSize);
    this.rank = options.rank;
    this.worldSize = options.worldSize;
    this.#links = options.links;
    this.#segmentElements = Math.floor((options.segmentBytes ?? limits.segmentBytes) / 4);
    this.#window = options.window ?? limits.segmentWindow;
    // Chunks differ by one element, so by at most one segment; a window of 2 keeps the last segment from waiting.
    assert(this.#window >= 2);
  }

  /**
   * Sums `buffer` over all ranks, in place; every rank ends with the same bytes.
   *
   * @param buffer f32, the same length on each rank; contents undefined after a throw
   * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | MESSAGE_INVALID | CANCELLED
   * Cost: each rank sends 2(W-1)/W * 4 * length bytes.
   * Source: Patarasuk & Yuan, "Bandwidth optimal all-reduce algorithms", 2009.
   */
  async allReduce(buffer: Float32Array, signal: AbortSignal): Promise<void> {
    assert(!this.#busy, "one operation at a time");
    if (signal.aborted) {
      this.destroy();
      throw new RingfoldError("CANCELLED", "the all-reduce was cancelled");
    }
    if (!this.#links) return;
    this.#busy = true;
    try {
      await this.#circulate(buffer, this.#links, signal);
      this.#operation++;
    } catch (cause) {
      this.destroy();
      if (signal.aborted) throw new RingfoldError("CANCELLED", "the all-reduce was cancelled", {}, { cause });
      throw cause;
    } finally {
      this.#busy = false;
    }
  }

  /** Resolves when every rank has arrived here. @throws as allReduce */
  async barrier(signal: AbortSignal): Promise<void> {
    await this.allReduce(new Float32Array(this.worldSize), signal);
  }

  destroy(): void {
    this.#links?.upstream.destroy();
    this.#links?.downstream.destroy();
  }

  async #circulate(
    buffer: Float32Array,
    { upstream, downstream }: NonNullable<RingOptions["links"]>,
    signal: AbortSignal,
  ): Promise<void> {
    const { rank, worldSize } = this;
    const stages = stageCount(worldSize);
    const chunkOf = (chunkIndex: number) =>
      chunkRange({ elementCount: buffer.length, worldSize, chunkIndex });
    const received = Array.from({ length: stages }, (_, stage) =>
      chunkOf(receivedChunkIndex({ rank, worldSize, stage })),
    );
    const own = chunkOf(rank);
    const ownSegments = segmentCount(own, this.#segmentElements);
    const send = (stage: number, segmentIndex: number, range: ElementRange) =>
      downstream.send({
        operation: this.#operation,
        stage,
        segmentIndex,
        elementCount: buffer.length,
        payload: new Uint8Array(
          buffer.buffer,
          buffer.byteOffset + 4 * range.start,
          4 * (range.end - range.start),
        ),
      });

    let launched = 0;
    const launchUpTo = (count: number) => {
      for (; launched < Math.min(count, ownSegments); launched++) {
        send(0, launched, segmentRange(own, this.#segmentElements, launched));
      }
    };
    launchUpTo(this.#window);

    let remaining = received.reduce((sum, chunk) => sum + segmentCount(chunk, this.#segmentElements), 0);
    let circulated = 0;
    for (; remaining > 0; remaining--) {
      const segment = await upstream.receive(signal);
      const range = this.#locate(segment, buffer.length, received);
      if (segment.stage < worldSize - 1) addInto(buffer, range.start, segment.payload);
      else copyInto(buffer, range.start, segment.payload);
      if (segment.stage + 1 < stages) send(segment.stage + 1, segment.segmentIndex, range);
      else launchUpTo(++circulated + this.#window);
    }
    // A queued segment is a view of `buffer`: the caller may only touch it once the queue is empty.
    await downstream.drained(signal);
  }

  /** Where a segment belongs; anything that does not fit this operation to the element is refused. */
  #locate(segment: Segment, elementCount: number, received: readonly ElementRange[]): ElementRange {
    const chunk = received[segment.stage];
    const range = chunk && segmentRange(chunk, this.#segmentElements, segment.segmentIndex);
    if (
      segment.operation !== this.#operation ||
      segment.elementCount !== elementCount ||
      !range ||
      segment.payload.byteLength !== 4 * (range.end - range.start)
    ) {
      const { operation, stage, segmentIndex, payload } = segment;
      throw new RingfoldError("MESSAGE_INVALID", "a segment does not belong to this operation", {
        peer: this.#links!.upstream.peerId,
        operation,
        expectedOperation: this.#operation,
        elementCount: segment.elementCount,
        expectedElementCount: elementCount,
        stage,
        segmentIndex,
        bytes: payload.byteLength,
      });
    }
    return range;
  }
}

function addInto(buffer: Float32Array, start: number, payload: Uint8Array): void {
  const addend = asFloats(payload);
  for (let i = 0; i < addend.length; i++) buffer[start + i]! += addend[i]!;
}

function copyInto(buffer: Float32Array, start: number, payload: Uint8Array): void {
  buffer.set(asFloats(payload), start);
}

/** A view where alignment allows, else a copy. */
function asFloats(bytes: Uint8Array): Float32Array {
  if (bytes.byteOffset % 4 === 0)
    return new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
  return new Float32Array(new Uint8Array(bytes).buffer);
}
