import { RingfoldError } from "../../protocol/errors.ts";
import {
  chunkRange,
  type ElementRange,
  receivedChunkIndex,
  segmentCount,
  segmentRange,
  stageCount,
} from "./chunks.ts";
import type { DownstreamLink, PlaceSegment, Segment } from "./link.ts";
import type { RingMemory } from "./memory.ts";
import { Slots } from "./slots.ts";
import { type WireFormat, wireFormats } from "./wire.ts";

/** f32 elements of a cache line. */
const lineElements = 16;

/** One all-reduce on one rank. Vectors are byte offsets into `memory`. */
export interface CirculationPlan {
  readonly rank: number;
  readonly worldSize: number;
  readonly operation: number;
  readonly memory: RingMemory;
  readonly vector: number;
  readonly elementCount: number;
  /** The last so many elements travel as f32 whatever the wire. */
  readonly exactTail: number;
  /** What rounding lost, to be added next time; 0 for none. */
  readonly residual: number;
  readonly wire: WireFormat;
  readonly segmentBytes: number;
  readonly window: number;
  readonly upstreamPeerId: string;
  readonly downstream: DownstreamLink;
}

/**
 * The segments of one all-reduce as they go round: what arrives is summed and sent on in one step, from the receive
 * buffer to a slot. With a lossy wire each element is rounded once on each rank: when its chunk is launched, when its
 * partial sum goes on, or when its sum is complete; so one residual an element remembers what this rank has lost, and
 * the rank that completes a sum keeps the rounded one that the others will get.
 */
export class Circulation {
  readonly #plan: CirculationPlan;
  readonly #stages: number;
  /** By stage: the chunk that arrives, and the segment of it that comes next. */
  readonly #received: readonly ElementRange[];
  readonly #nextSegment: Uint32Array;
  readonly #segmentElements: number;
  readonly #own: ElementRange;
  readonly #ownSegments: number;
  readonly #exactStart: number;
  readonly #slots: Slots;
  readonly #encode: ReturnType<WireFormat["encode"]>;
  readonly #decode: ReturnType<WireFormat["decode"]>;
  #launched = 0;
  #circulated = 0;
  /** Segments still to come. */
  remaining: number;
  /** Segments still to be sent on; with none left the downstream neighbour has, or will have, all that it needs of us. */
  unsent: number;

  constructor(plan: CirculationPlan) {
    const { rank, worldSize, elementCount, wire, memory } = plan;
    this.#plan = plan;
    this.#stages = stageCount(worldSize);
    this.#segmentElements = wire.elementsIn(plan.segmentBytes - 4 * plan.exactTail);
    // A chunk that starts at a cache line can be received into; where a line is much of a chunk they are as equal as can be.
    const isLong = Math.min(this.#segmentElements, elementCount / worldSize) >= 4 * lineElements;
    const alignment = isLong ? lineElements : 1;
    const chunkOf = (chunkIndex: number) => chunkRange({ elementCount, worldSize, chunkIndex, alignment });
    this.#received = Array.from({ length: this.#stages }, (_, stage) =>
      chunkOf(receivedChunkIndex({ rank, worldSize, stage })),
    );
    this.#nextSegment = new Uint32Array(this.#stages);
    this.#own = chunkOf(rank);
    this.#ownSegments = segmentCount(this.#own, this.#segmentElements);
    this.#exactStart = elementCount - plan.exactTail;
    // An exact element is up to 4 bytes longer than a lossy one.
    const payloadBytesMax = wire.payloadBytes(this.#segmentElements) + 4 * plan.exactTail;
    this.#slots = new Slots(memory, { payloadBytesMax, window: plan.window });
    this.#encode = wire.encode(memory.kernels);
    this.#decode = wire.decode(memory.kernels);
    const segments = this.#received.map((chunk) => segmentCount(chunk, this.#segmentElements));
    this.remaining = segments.reduce((sum, count) => sum + count, 0);
    this.unsent = this.#ownSegments + this.remaining - segments.at(-1)!;
  }

  /** Sends the first segments of our own chunk. */
  launch(): void {
    this.#launchUpTo(this.#plan.window);
  }

  /**
   * In a ring of two a complete f32 sum arrives where it stays; what is to be summed, sent on or decoded, in the link's own
   * memory. In larger rings, where sums go on, the reads of single headers cost more than the copies (docs/ring.md).
   */
  get place(): PlaceSegment | undefined {
    return this.#plan.worldSize === 2 && !this.#decode ? (segment) => this.#place(segment) : undefined;
  }

  #place(segment: Parameters<PlaceSegment>[0]): Uint8Array | undefined {
    const { worldSize, memory, vector } = this.#plan;
    if (segment.stage < worldSize - 1) return undefined;
    const range = this.#rangeOf(segment, segment.payloadBytes);
    const isAligned = range && (vector + 4 * range.start) % (4 * lineElements) === 0;
    return isAligned
      ? new Uint8Array(memory.bytes.buffer, vector + 4 * range.start, segment.payloadBytes)
      : undefined;
  }

  /** Sums or keeps an arrived segment and sends it on. @throws RingfoldError MESSAGE_INVALID */
  take(segment: Segment): void {
    const { worldSize, memory } = this.#plan;
    const range = this.#locate(segment);
    const { payload, stage, segmentIndex } = segment;
    let pointer = payload.byteOffset;
    if (!memory.owns(payload)) {
      pointer = memory.staging;
      memory.bytes.set(payload, pointer);
    }
    this.#nextSegment[stage]!++;
    this.remaining--;
    const isLast = stage + 1 === this.#stages;
    if (stage < worldSize - 1) {
      const slot = this.#slots.next(this.#plan.downstream);
      this.#encodeRange(slot, range, { addend: pointer, keep: stage === worldSize - 2 ? 1 : 0 });
      this.#send(slot, stage + 1, segmentIndex, payload.length);
      return;
    }
    this.#decodeRange(range, pointer);
    if (isLast) return this.#launchUpTo(++this.#circulated + this.#plan.window);
    const slot = this.#slots.next(this.#plan.downstream);
    memory.kernels.copy(slot, pointer, payload.length);
    this.#send(slot, stage + 1, segmentIndex, payload.length);
  }

  #launchUpTo(count: number): void {
    for (const end = Math.min(count, this.#ownSegments); this.#launched < end; this.#launched++) {
      const range = segmentRange(this.#own, this.#segmentElements, this.#launched);
      const slot = this.#slots.next(this.#plan.downstream);
      this.#encodeRange(slot, range, { addend: 0, keep: 0 });
      this.#send(slot, 0, this.#launched, this.#payloadBytes(range));
    }
  }

  #send(slot: number, stage: number, segmentIndex: number, payloadBytes: number): void {
    const { operation, elementCount, wire, memory, downstream } = this.#plan;
    this.unsent--;
    downstream.send({
      operation,
      stage,
      segmentIndex,
      elementCount,
      wireCode: wire.code,
      payload: new Uint8Array(memory.bytes.buffer, slot, payloadBytes),
      headroom: true,
    });
  }

  /** A segment is its lossy elements, then those of the exact tail that fall into it. */
  #split({ start, end }: ElementRange): { readonly lossy: number; readonly exact: number } {
    const lossy = Math.max(0, Math.min(end, this.#exactStart) - start);
    return { lossy, exact: end - start - lossy };
  }

  #payloadBytes(range: ElementRange): number {
    const { lossy, exact } = this.#split(range);
    return this.#plan.wire.payloadBytes(lossy) + 4 * exact;
  }

  #encodeRange(
    out: number,
    range: ElementRange,
    { addend, keep }: { readonly addend: number; readonly keep: 0 | 1 },
  ): void {
    const { vector, residual, wire, memory } = this.#plan;
    const { lossy, exact } = this.#split(range);
    const x = vector + 4 * range.start;
    this.#encode(out, x, addend, residual && residual + 4 * range.start, keep, lossy);
    if (exact === 0) return;
    const bytes = wire.payloadBytes(lossy);
    memory.kernels.encodeF32(out + bytes, x + 4 * lossy, addend && addend + bytes, 0, keep, exact);
  }

  #decodeRange(range: ElementRange, pointer: number): void {
    const { vector, wire, memory } = this.#plan;
    const { lossy, exact } = this.#split(range);
    const x = vector + 4 * range.start;
    if (this.#decode) this.#decode(x, pointer, lossy);
    else if (pointer !== x) memory.kernels.copy(x, pointer, 4 * lossy);
    if (exact > 0) memory.kernels.copy(x + 4 * lossy, pointer + wire.payloadBytes(lossy), 4 * exact);
  }

  #rangeOf(segment: Omit<Segment, "payload">, payloadBytes: number): ElementRange | undefined {
    const { operation, elementCount, wire } = this.#plan;
    const chunk = this.#received[segment.stage];
    const range = chunk && segmentRange(chunk, this.#segmentElements, segment.segmentIndex);
    return segment.operation === operation &&
      segment.elementCount === elementCount &&
      segment.wireCode === wire.code &&
      range &&
      range.start < range.end &&
      segment.segmentIndex === this.#nextSegment[segment.stage] &&
      payloadBytes === this.#payloadBytes(range)
      ? range
      : undefined;
  }

  /** Where a segment belongs; anything that does not fit this operation to the element, in its turn, is refused. */
  #locate(segment: Segment): ElementRange {
    const { operation, elementCount, wire, upstreamPeerId } = this.#plan;
    const range = this.#rangeOf(segment, segment.payload.byteLength);
    if (range) return range;
    const theirs = Object.values(wireFormats).find(({ code }) => code === segment.wireCode);
    throw new RingfoldError("MESSAGE_INVALID", "a segment does not belong to this operation", {
      peer: upstreamPeerId,
      operation: segment.operation,
      expectedOperation: operation,
      elementCount: segment.elementCount,
      expectedElementCount: elementCount,
      wire: theirs?.name ?? segment.wireCode,
      expectedWire: wire.name,
      stage: segment.stage,
      segmentIndex: segment.segmentIndex,
      bytes: segment.payload.byteLength,
    });
  }
}
