import assert from "node:assert";
import { RingfoldError } from "../../protocol/errors.ts";
import type { Wire } from "../../protocol/job-spec.ts";
import { limits } from "../../protocol/limits.ts";
import { Circulation } from "./circulation.ts";
import { Gathering } from "./gathering.ts";
import {
  type DownstreamLink,
  type PlaceSegment,
  receiveEach,
  type Segment,
  type UpstreamLink,
} from "./link.ts";
import { RingMemory } from "./memory.ts";
import { wireFormats } from "./wire.ts";

export interface RingOptions {
  readonly rank: number;
  readonly worldSize: number;
  /** Absent in a world of one. */
  readonly links?: { readonly upstream: UpstreamLink; readonly downstream: DownstreamLink };
  /**
   * Buffers and residuals that were allocated from it are summed in place; others are copied in and out. The ring has it
   * for itself.
   */
  readonly memory?: RingMemory;
  /** After so many bytes on a link the ring asks to be formed anew; no limit unless told. */
  readonly linkBytesMax?: number;
  readonly segmentBytes?: number;
  /** First-stage segments of this rank that may circulate at once; at least 2. */
  readonly window?: number;
}

export interface AllReduceOptions {
  /** f32 unless told. */
  readonly wire?: Wire;
  /** The last so many elements travel as f32 whatever the wire: counts and votes. */
  readonly exactTail?: number;
  /**
   * Error feedback for a lossy wire, f32 [length - exactTail], in the ring's memory if the buffer is: added to what this
   * rank contributes, then replaced by what rounding lost on this rank. Contents undefined after a throw.
   * Source: Seide et al., "1-bit stochastic gradient descent", 2014.
   */
  readonly residual?: Float32Array;
}

/** The segments of one operation on one rank. */
interface Collective {
  /** What is still to come; 0 is the end. */
  readonly remaining: number;
  /** What is still to be sent; with nothing left the downstream neighbour has, or will have, all that it needs of us. */
  readonly unsent: number;
  launch(): void;
  /** @throws RingfoldError MESSAGE_INVALID */
  take(segment: Segment): void;
  readonly place?: PlaceSegment | undefined;
}

interface Copy {
  readonly memory: RingMemory;
  readonly vector: Float32Array;
  readonly residual: Float32Array;
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
  readonly #options: RingOptions;
  readonly #segmentBytes: number;
  readonly #window: number;
  /** For buffers from elsewhere: as large as the largest so far. */
  #copy: Copy | undefined;
  #operation = 0;
  #busy = false;

  constructor(options: RingOptions) {
    assert(options.worldSize === 1 || options.links, "a ring of several needs links");
    assert(options.rank >= 0 && options.rank < options.worldSize);
    this.rank = options.rank;
    this.worldSize = options.worldSize;
    this.#options = options;
    this.#segmentBytes = options.segmentBytes ?? limits.segmentBytes;
    this.#window = options.window ?? limits.segmentWindow;
    // Chunks differ by at most one segment (chunks.ts); a window of 2 keeps the last one from waiting.
    assert(this.#window >= 2);
  }

  /**
   * Sums `buffer` over all ranks, in place; every rank ends with the same bytes.
   *
   * Infinities and NaN come out as NaN or infinities on every rank with any wire, never as numbers.
   *
   * @param buffer f32, the same length on each rank; contents undefined after a throw
   * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | MESSAGE_INVALID | CANCELLED
   * Cost: each rank sends 2(W-1)/W * length * 4 bytes with f32, 2 with bf16, 1.016 with int8.
   * Source: Patarasuk & Yuan, "Bandwidth optimal all-reduce algorithms", 2009.
   */
  async allReduce(buffer: Float32Array, signal: AbortSignal, options: AllReduceOptions = {}): Promise<void> {
    const { links, memory } = this.#options;
    if (!links) return;
    await this.#operate(signal, () =>
      memory?.owns(buffer)
        ? this.#circulate(memory, buffer, options, signal)
        : this.#circulateCopy(buffer, options, signal),
    );
  }

  /**
   * Brings what each rank contributes to every rank.
   *
   * @param payload of this rank; must stay as it is until the end
   * @param payloadBytesMax no rank contributes more, or MESSAGE_INVALID; the same on each rank
   * @returns by rank, our own included
   * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | MESSAGE_INVALID | CANCELLED
   * Cost: each rank sends what the W-1 ranks upstream of its neighbour contribute, itself included.
   */
  async allGather(
    payload: Uint8Array,
    signal: AbortSignal,
    { payloadBytesMax }: { readonly payloadBytesMax: number },
  ): Promise<readonly Uint8Array[]> {
    const { links } = this.#options;
    assert(payload.length <= payloadBytesMax);
    if (!links) return [payload];
    return this.#operate(signal, async () => {
      const gathering = new Gathering({
        ...{ rank: this.rank, worldSize: this.worldSize, operation: this.#operation },
        ...{ payload, payloadBytesMax, segmentBytes: this.#segmentBytes },
        ...{ upstreamPeerId: links.upstream.peerId, downstream: links.downstream },
      });
      await this.#carry(gathering, { pendingMax: Number.POSITIVE_INFINITY, signal });
      return gathering.payloads;
    });
  }

  /** What this rank has sent to its neighbour since the links stand, counted at the socket. */
  get sentBytes(): number {
    return this.#options.links?.downstream.bytesSent ?? 0;
  }

  get receivedBytes(): number {
    return this.#options.links?.upstream.bytesReceived ?? 0;
  }

  /** The links have carried what they may: end this generation at the next boundary. */
  get isWornOut(): boolean {
    return this.sentBytes > (this.#options.linkBytesMax ?? Number.POSITIVE_INFINITY);
  }

  /** Resolves when every rank has arrived here. @throws as allReduce */
  async barrier(signal: AbortSignal): Promise<void> {
    await this.allReduce(new Float32Array(this.worldSize), signal);
  }

  /**
   * How long a neighbour may send, or take, no whole segment while this rank waits for it.
   * An operation that is under way may still end by the bound before.
   */
  set hopTimeoutMs(timeoutMs: number) {
    const { links } = this.#options;
    if (!links) return;
    links.upstream.hopTimeoutMs = timeoutMs;
    links.downstream.hopTimeoutMs = timeoutMs;
  }

  /**
   * For whoever works between two operations: nobody ends a ring there but by a failure.
   * @throws RingfoldError RING_BROKEN when the downstream neighbour has closed its link
   */
  throwIfBroken(): void {
    const closed = this.#options.links?.downstream.closed;
    if (closed?.aborted) throw closed.reason;
  }

  destroy(): void {
    this.#options.links?.upstream.destroy();
    this.#options.links?.downstream.destroy();
  }

  /** Runs one collective operation; any failure of it is the end of this ring. */
  async #operate<Result>(signal: AbortSignal, operation: () => Promise<Result>): Promise<Result> {
    assert(!this.#busy, "one operation at a time");
    this.#busy = true;
    try {
      const result = await operation();
      this.#operation++;
      return result;
    } catch (cause) {
      this.destroy();
      if (signal.aborted) throw new RingfoldError("CANCELLED", "the operation was cancelled", {}, { cause });
      throw cause;
    } finally {
      this.#busy = false;
    }
  }

  async #circulateCopy(buffer: Float32Array, options: AllReduceOptions, signal: AbortSignal): Promise<void> {
    const copy = this.#copyFor(buffer.length);
    const vector = copy.vector.subarray(0, buffer.length);
    vector.set(buffer);
    const { residual, ...rest } = options;
    if (!residual) await this.#circulate(copy.memory, vector, rest, signal);
    else {
      copy.residual.set(residual);
      await this.#circulate(copy.memory, vector, { ...rest, residual: copy.residual }, signal);
      residual.set(copy.residual.subarray(0, residual.length));
    }
    buffer.set(vector);
  }

  async #circulate(
    memory: RingMemory,
    vector: Float32Array,
    { wire = "f32", exactTail = 0, residual }: AllReduceOptions,
    signal: AbortSignal,
  ): Promise<void> {
    const { upstream, downstream } = this.#options.links!;
    assert(!residual || (memory.owns(residual) && residual.length >= vector.length - exactTail));
    const window = this.#window;
    const circulation = new Circulation({
      ...{ rank: this.rank, worldSize: this.worldSize, operation: this.#operation },
      ...{ memory, vector: vector.byteOffset, elementCount: vector.length },
      exactTail: wire === "f32" ? 0 : exactTail,
      residual: residual?.byteOffset ?? 0,
      wire: wireFormats[wire],
      segmentBytes: this.#segmentBytes,
      ...{ window, upstreamPeerId: upstream.peerId, downstream },
    });
    // No rank waits for ever for a free slot: at most `window` segments of each rank circulate, so the `window + 1` slots
    // of all ranks are never full at once.
    await this.#carry(circulation, { pendingMax: window, signal });
  }

  /** One operation from its launch to its last segment; no segment is taken while more than `pendingMax` wait to leave. */
  async #carry(
    collective: Collective,
    { pendingMax, signal }: { readonly pendingMax: number; readonly signal: AbortSignal },
  ): Promise<void> {
    const { upstream, downstream } = this.#options.links!;
    // The abort runs both ways: who waits for its upstream must not wait when the rank below has broken the ring. Once all
    // that it needs was sent, it may have ended the operation, and with it the generation, before this rank.
    const stop = new AbortController();
    const onCancel = () => stop.abort(signal.reason);
    const onClosed = () => {
      if (collective.unsent > 0) stop.abort(downstream.closed.reason);
    };
    const more = () => collective.remaining > 0;
    const untilSent = async () => {
      await downstream.drained(stop.signal, pendingMax);
      return more();
    };
    const take = (segment: Segment) => {
      collective.take(segment);
      return downstream.pendingCount <= pendingMax || !more() ? more() : untilSent();
    };
    signal.addEventListener("abort", onCancel);
    downstream.closed.addEventListener("abort", onClosed);
    if (signal.aborted) onCancel();
    if (downstream.closed.aborted) onClosed();
    try {
      collective.launch();
      if (more()) await receiveEach(upstream, take, stop.signal, collective.place);
      // What was sent is used anew by the next operation, and the links may be closed after the last one.
      await downstream.drained(stop.signal);
    } catch (cause) {
      throw stop.signal.reason instanceof RingfoldError ? stop.signal.reason : cause;
    } finally {
      signal.removeEventListener("abort", onCancel);
      downstream.closed.removeEventListener("abort", onClosed);
    }
  }

  #copyFor(elementCount: number): Copy {
    if (!this.#copy || this.#copy.vector.length < elementCount) {
      const capacity = Math.max(elementCount, 1_024);
      const memory = new RingMemory({
        elementCount: 2 * capacity,
        window: this.#window,
        segmentBytes: this.#segmentBytes + 4 * 16,
        receiveBytes: 0,
      });
      this.#copy = { memory, vector: memory.allocate(capacity), residual: memory.allocate(capacity) };
    }
    return this.#copy;
  }
}
