import { RingfoldError } from "../../protocol/errors.ts";
import { doublingRounds } from "../../protocol/recursive-doubling.ts";
import { untilBroken } from "./carry.ts";
import { type ElementRange, segmentCount, segmentRange } from "./chunks.ts";
import { type DownstreamLink, type PeerLinks, receiveEach, type Segment } from "./link.ts";
import type { RingMemory } from "./memory.ts";
import { Slots } from "./slots.ts";
import { doublingWireCode } from "./wire.ts";

/** One all-reduce by recursive doubling on one rank. `vector` is a byte offset into `memory`. */
interface DoublingPlan {
  readonly rank: number;
  readonly worldSize: number;
  readonly operation: number;
  readonly memory: RingMemory;
  readonly vector: number;
  readonly elementCount: number;
  readonly segmentBytes: number;
  /** Segments that this rank may be ahead of what it has received. */
  readonly window: number;
  readonly partners: ReadonlyMap<number, PeerLinks>;
}

/** What this rank does in one round. */
interface Part {
  /** Number of the round. */
  readonly stage: number;
  readonly sendsTo: PeerLinks | undefined;
  readonly receivesFrom: PeerLinks | undefined;
  /** What arrives is the whole sum. */
  readonly isComplete: boolean;
}

/**
 * Sums the vectors of all ranks, in place and to the same bits, by recursive doubling.
 * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | MESSAGE_INVALID | CANCELLED
 * Cost: log2(W) rounds of the whole vector (two more where W is no power of two) instead of the ring's 2(W-1) of one W-th.
 * Source: protocol/recursive-doubling.ts.
 */
export async function sumByDoubling(plan: DoublingPlan, signal: AbortSignal): Promise<void> {
  const { rank, partners } = plan;
  const linksTo = (other: number | undefined) => (other === undefined ? undefined : partners.get(other)!);
  const parts = doublingRounds(plan.worldSize).map(({ hops, isComplete }, stage): Part => {
    const sendsTo = linksTo(hops.find(({ from }) => from === rank)?.to);
    return { stage, isComplete, sendsTo, receivesFrom: linksTo(hops.find(({ to }) => to === rank)?.from) };
  });
  const segmentElements = Math.max(1, Math.floor(plan.segmentBytes / 4));
  const slots = new Slots(plan.memory, { payloadBytesMax: 4 * segmentElements, window: plan.window });
  let current = 0;
  // A partner with whom nothing is left to do may have ended the operation, and with it the generation, before this rank.
  // Any other one that goes ends it for this rank too, whomever it waits for: so the news of a death runs through all
  // pairs. With a stalled rank between, the bound on a hop tells those beyond it.
  const isNeeded = (link: PeerLinks["downstream"]) =>
    parts
      .slice(current)
      .some(({ sendsTo, receivesFrom }) => sendsTo?.downstream === link || receivesFrom?.downstream === link);
  const watched = [...partners.values()].map(({ downstream }) => downstream);
  await untilBroken(watched, { isNeeded, signal }, async (stop) => {
    for (; current < parts.length; current++)
      await exchange({ ...plan, slots, segmentElements }, parts[current]!, stop);
  });
}

interface Exchange extends DoublingPlan {
  readonly slots: Slots;
  readonly segmentElements: number;
}

/** One round: sends the vector as it is, and sums or keeps the partner's, segment by segment. */
async function exchange(plan: Exchange, part: Part, stop: AbortSignal): Promise<void> {
  const { sendsTo, receivesFrom, stage } = part;
  const { segmentElements } = plan;
  const whole: ElementRange = { start: 0, end: plan.elementCount };
  const count = segmentCount(whole, segmentElements);
  const outgoing = sendsTo?.downstream;
  let launched = outgoing ? 0 : count;
  // Segment i is summed only after ours of that number has been copied: the partner is to get it as it was.
  const launch = async (upTo: number): Promise<void> => {
    for (const end = Math.min(upTo, count); launched < end; launched++) {
      await outgoing!.drained(stop, plan.window);
      const range = segmentRange(whole, segmentElements, launched);
      outgoing!.send({
        ...headOf(plan, stage, launched),
        payload: copyOf(plan, range, outgoing!),
        headroom: true,
      });
    }
  };
  await launch(receivesFrom ? plan.window : count);
  if (receivesFrom && count > 0) {
    let received = 0;
    // Both ends stay within a window of what they have received, so that never both wait for room to send.
    const launchNext = async () => {
      await launch(received + plan.window);
      return received < count;
    };
    const take = (segment: Segment) => {
      const range = segmentRange(whole, segmentElements, received);
      check(segment, { ...headOf(plan, stage, received), range, peer: receivesFrom.upstream.peerId });
      add(plan, range, { payload: segment.payload, isComplete: part.isComplete });
      received++;
      return launched < count ? launchNext() : received < count;
    };
    await receiveEach(receivesFrom.upstream, take, stop);
  }
  await outgoing?.drained(stop);
}

function add(
  { memory, vector }: DoublingPlan,
  { start, end }: ElementRange,
  { payload, isComplete }: { readonly payload: Uint8Array; readonly isComplete: boolean },
): void {
  const x = vector + 4 * start;
  let pointer = payload.byteOffset;
  if (!memory.owns(payload)) {
    pointer = isComplete ? x : memory.staging;
    memory.bytes.set(payload, pointer);
  }
  if (!isComplete) memory.kernels.encodeF32(x, x, pointer, 0, 0, end - start);
  else if (pointer !== x) memory.kernels.copy(x, pointer, payload.length);
}

const headOf = ({ operation, elementCount }: DoublingPlan, stage: number, segmentIndex: number) => ({
  ...{ operation, stage, segmentIndex, elementCount },
  wireCode: doublingWireCode,
});

/** A part of the vector as it is, in a slot of its own. */
function copyOf(
  { memory, vector, slots }: Exchange,
  { start, end }: ElementRange,
  link: DownstreamLink,
): Uint8Array {
  const slot = slots.next(link);
  memory.kernels.copy(slot, vector + 4 * start, 4 * (end - start));
  return new Uint8Array(memory.bytes.buffer, slot, 4 * (end - start));
}

/** Anything that does not fit this operation to the element, in its turn, is refused. @throws RingfoldError MESSAGE_INVALID */
function check(
  segment: Segment,
  expected: Omit<Segment, "payload"> & { readonly range: ElementRange; readonly peer: string },
): void {
  const { operation, stage, segmentIndex, elementCount, wireCode, range, peer } = expected;
  const payloadBytes = 4 * (range.end - range.start);
  if (
    segment.operation === operation &&
    segment.stage === stage &&
    segment.segmentIndex === segmentIndex &&
    segment.elementCount === elementCount &&
    segment.wireCode === wireCode &&
    segment.payload.byteLength === payloadBytes
  ) {
    return;
  }
  throw new RingfoldError("MESSAGE_INVALID", "a segment does not belong to this sum by doubling", {
    ...{ peer, operation: segment.operation, expectedOperation: operation },
    ...{ stage: segment.stage, expectedStage: stage, segmentIndex: segment.segmentIndex },
    ...{ elementCount: segment.elementCount, expectedElementCount: elementCount },
    ...{ wire: segment.wireCode, bytes: segment.payload.byteLength, expectedBytes: payloadBytes },
  });
}
