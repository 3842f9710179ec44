import { RingfoldError } from "../../protocol/errors.ts";
import { receivedChunkIndex } from "./chunks.ts";
import type { DownstreamLink, Segment } from "./link.ts";
import { gatherWireCode } from "./wire.ts";

/** One all-gather on one rank. */
export interface GatheringPlan {
  readonly rank: number;
  readonly worldSize: number;
  readonly operation: number;
  readonly payload: Uint8Array;
  /** No rank may contribute more. */
  readonly payloadBytesMax: number;
  readonly segmentBytes: number;
  readonly upstreamPeerId: string;
  readonly downstream: DownstreamLink;
}

/**
 * The segments of one all-gather as they go round: W-1 stages, at each of which a rank keeps a segment of the payload of
 * another rank and sends it on. Every segment says how long its whole payload is, as only its rank knows beforehand.
 *
 * Without a window: what waits to be sent is what the result holds anyway, at most (W-1) * payloadBytesMax.
 */
export class Gathering {
  readonly #plan: GatheringPlan;
  readonly #payloads: (Uint8Array | undefined)[];
  /** By stage: the segment that comes next. */
  readonly #nextSegment: Uint32Array;
  /** Payloads that are not here in full. */
  remaining: number;
  /** Payloads that were not sent in full; that of our downstream neighbour stays here. */
  unsent: number;

  constructor(plan: GatheringPlan) {
    this.#plan = plan;
    this.#payloads = Array.from({ length: plan.worldSize }, () => undefined);
    this.#payloads[plan.rank] = plan.payload;
    this.#nextSegment = new Uint32Array(plan.worldSize - 1);
    this.remaining = plan.worldSize - 1;
    this.unsent = plan.worldSize - 1;
  }

  /** By rank; complete when nothing remains. */
  get payloads(): readonly Uint8Array[] {
    return this.#payloads as readonly Uint8Array[];
  }

  /** The downstream neighbour has, or will have, all that it needs of us. */
  get hasSentAll(): boolean {
    const { rank, worldSize } = this.#plan;
    for (let stage = 0; stage < worldSize - 2; stage++) {
      const payload = this.#payloads[receivedChunkIndex({ rank, worldSize, stage })];
      if (!payload || this.#nextSegment[stage]! < this.#segmentCount(payload.length)) return false;
    }
    return true;
  }

  /** Sends all of our own. */
  launch(): void {
    const { payload } = this.#plan;
    for (let segmentIndex = 0; segmentIndex < this.#segmentCount(payload.length); segmentIndex++)
      this.#send(payload, 0, segmentIndex);
  }

  /** Keeps an arrived segment and sends it on. @throws RingfoldError MESSAGE_INVALID */
  take(segment: Segment): void {
    const { rank, worldSize, segmentBytes } = this.#plan;
    const { stage, segmentIndex, elementCount: payloadBytes } = segment;
    this.#check(segment);
    const from = receivedChunkIndex({ rank, worldSize, stage });
    this.#payloads[from] ??= new Uint8Array(payloadBytes);
    const payload = this.#payloads[from];
    payload.set(segment.payload, segmentIndex * segmentBytes);
    if (++this.#nextSegment[stage]! === this.#segmentCount(payloadBytes)) this.remaining--;
    if (stage + 1 < worldSize - 1) this.#send(payload, stage + 1, segmentIndex);
  }

  #send(payload: Uint8Array, stage: number, segmentIndex: number): void {
    const { operation, segmentBytes, downstream } = this.#plan;
    if (segmentIndex + 1 === this.#segmentCount(payload.length)) this.unsent--;
    downstream.send({
      ...{ operation, stage, segmentIndex },
      elementCount: payload.length,
      wireCode: gatherWireCode,
      payload: payload.subarray(segmentIndex * segmentBytes, (segmentIndex + 1) * segmentBytes),
    });
  }

  /** An empty payload travels too: as one empty segment. */
  #segmentCount(payloadBytes: number): number {
    return Math.max(1, Math.ceil(payloadBytes / this.#plan.segmentBytes));
  }

  /** Anything that does not fit this operation to the byte, in its turn, is refused. */
  #check({ operation, stage, segmentIndex, elementCount, wireCode, payload }: Segment): void {
    const { rank, worldSize, segmentBytes, payloadBytesMax, upstreamPeerId } = this.#plan;
    const from = stage < worldSize - 1 ? receivedChunkIndex({ rank, worldSize, stage }) : rank;
    const known = this.#payloads[from];
    if (
      operation === this.#plan.operation &&
      wireCode === gatherWireCode &&
      from !== rank &&
      elementCount <= payloadBytesMax &&
      (known === undefined || known.length === elementCount) &&
      segmentIndex === this.#nextSegment[stage] &&
      segmentIndex < this.#segmentCount(elementCount) &&
      payload.length === Math.min(segmentBytes, elementCount - segmentIndex * segmentBytes)
    ) {
      return;
    }
    throw new RingfoldError("MESSAGE_INVALID", "a segment does not belong to this all-gather", {
      peer: upstreamPeerId,
      operation,
      expectedOperation: this.#plan.operation,
      payloadBytes: elementCount,
      payloadBytesMax,
      wire: wireCode,
      ...{ stage, segmentIndex, bytes: payload.length },
    });
  }
}
