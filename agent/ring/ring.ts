import assert from "node:assert";
import { RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import { carry } from "./carry.ts";
import { Circulation } from "./circulation.ts";
import { sumByDoubling } from "./doubling.ts";
import { Gathering } from "./gathering.ts";
import type { DownstreamLink, PeerLinks } from "./link.ts";
import { RingMemory } from "./memory.ts";
import type { AllReduceOptions, RingPort } from "./port.ts";
import { wireFormats } from "./wire.ts";

export interface RingOptions {
  readonly rank: number;
  readonly worldSize: number;
  /** To the neighbours; absent in a world of one, and with `partners`. */
  readonly links?: PeerLinks;
  /**
   * By rank, those that this one exchanges with by recursive doubling (protocol/recursive-doubling.ts): sums then go that
   * way, and nothing goes round.
   */
  readonly partners?: ReadonlyMap<number, PeerLinks>;
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
  /** Monotonic milliseconds. */
  readonly nowMs?: () => number;
}

interface Copy {
  readonly memory: RingMemory;
  readonly vector: Float32Array;
  readonly residual: Float32Array;
}

/**
 * One rank's end of a ring for the length of one generation; or of the pairs of recursive doubling, where the plan says so.
 *
 * When an operation throws, the ring is dead: all links are destroyed, so the news runs round the ring in both
 * directions at the speed of a closing socket, and a new generation must be agreed. A neighbour that is lost between two
 * operations is as much of an end: the ring passes the news on at once, whatever its owner is computing.
 */
export class Ring implements RingPort {
  readonly rank: number;
  readonly worldSize: number;
  readonly #options: RingOptions;
  readonly #links: readonly PeerLinks[];
  readonly #segmentBytes: number;
  readonly #window: number;
  /** For buffers from elsewhere: as large as the largest so far. */
  #copy: Copy | undefined;
  #operation = 0;
  /** Settles when all operations have ended that were asked for; undefined between two. */
  #newest: Promise<void> | undefined;
  #waitingCount = 0;
  #busyMs = 0;

  constructor(options: RingOptions) {
    const { links, partners } = options;
    assert(options.worldSize === 1 || links || partners, "a ring of several needs links");
    assert(options.rank >= 0 && options.rank < options.worldSize);
    this.rank = options.rank;
    this.worldSize = options.worldSize;
    this.#options = options;
    this.#links = partners ? [...partners.values()] : links ? [links] : [];
    this.#segmentBytes = options.segmentBytes ?? limits.segmentBytes;
    this.#window = options.window ?? limits.segmentWindow;
    // Chunks differ by at most one segment (chunks.ts); a window of 2 keeps the last one from waiting.
    assert(this.#window >= 2);
    for (const { closed } of this.downstreams)
      closed.addEventListener("abort", () => this.#passOn(), { once: true });
  }

  async allReduce(buffer: Float32Array, signal: AbortSignal, options: AllReduceOptions = {}): Promise<void> {
    const { memory } = this.#options;
    if (this.worldSize === 1) return;
    await this.#operate(signal, () =>
      memory?.owns(buffer)
        ? this.#reduce(memory, buffer, options, signal)
        : this.#reduceCopy(buffer, options, signal),
    );
  }

  async allGather(
    payload: Uint8Array,
    signal: AbortSignal,
    { payloadBytesMax }: { readonly payloadBytesMax: number },
  ): Promise<readonly Uint8Array[]> {
    const { links } = this.#options;
    assert(payload.length <= payloadBytesMax);
    if (this.worldSize === 1) return [payload];
    assert(links, "an all-gather goes round a ring");
    return this.#operate(signal, async () => {
      const gathering = new Gathering({
        ...{ rank: this.rank, worldSize: this.worldSize, operation: this.#operation },
        ...{ payload, payloadBytesMax, segmentBytes: this.#segmentBytes },
        ...{ upstreamPeerId: links.upstream.peerId, downstream: links.downstream },
      });
      await carry(gathering, links, { pendingMax: Number.POSITIVE_INFINITY, signal });
      return gathering.payloads;
    });
  }

  get sentBytes(): number {
    return this.#links.reduce((sum, { downstream }) => sum + downstream.bytesSent, 0);
  }

  get busyMs(): number {
    return this.#busyMs;
  }

  get receivedBytes(): number {
    return this.#links.reduce((sum, { upstream }) => sum + upstream.bytesReceived, 0);
  }

  get isWornOut(): boolean {
    const { linkBytesMax = Number.POSITIVE_INFINITY } = this.#options;
    return this.#links.some(({ downstream }) => downstream.bytesSent > linkBytesMax);
  }

  async barrier(signal: AbortSignal): Promise<void> {
    await this.allReduce(new Float32Array(this.worldSize), signal);
  }

  set hopTimeoutMs(timeoutMs: number) {
    for (const { upstream, downstream } of this.#links) {
      upstream.hopTimeoutMs = timeoutMs;
      downstream.hopTimeoutMs = timeoutMs;
    }
  }

  throwIfBroken(): void {
    for (const { closed } of this.downstreams) if (closed.aborted) throw closed.reason;
  }

  /** To the ranks that this one sends to. */
  get downstreams(): readonly DownstreamLink[] {
    return this.#links.map(({ downstream }) => downstream);
  }

  destroy(): void {
    for (const { upstream, downstream } of this.#links) {
      upstream.destroy();
      downstream.destroy();
    }
  }

  /** Runs one collective operation after those before it; any failure of it is the end of this ring. */
  async #operate<Result>(signal: AbortSignal, operation: () => Promise<Result>): Promise<Result> {
    const { nowMs = performance.now.bind(performance) } = this.#options;
    const before = this.#newest;
    const ended = Promise.withResolvers<void>();
    this.#newest = ended.promise;
    if (before !== undefined) {
      assert(
        ++this.#waitingCount <= limits.ringOperationsMax,
        "no more operations wait than a step has buckets",
      );
      await before;
      this.#waitingCount--;
    }
    const startedAtMs = nowMs();
    try {
      const result = await operation();
      this.#operation++;
      return result;
    } catch (cause) {
      this.destroy();
      if (signal.aborted) throw new RingfoldError("CANCELLED", "the operation was cancelled", {}, { cause });
      throw cause;
    } finally {
      this.#busyMs += nowMs() - startedAtMs;
      if (this.#newest === ended.promise) this.#newest = undefined;
      this.#passOn();
      ended.resolve();
    }
  }

  /** An operation that is under way knows by itself whether it still needs the neighbour. */
  #passOn(): void {
    if (!this.#newest && this.downstreams.some(({ closed }) => closed.aborted)) this.destroy();
  }

  async #reduceCopy(buffer: Float32Array, options: AllReduceOptions, signal: AbortSignal): Promise<void> {
    const copy = this.#copyFor(buffer.length);
    const vector = copy.vector.subarray(0, buffer.length);
    vector.set(buffer);
    const { residual, ...rest } = options;
    if (!residual) await this.#reduce(copy.memory, vector, rest, signal);
    else {
      copy.residual.set(residual);
      await this.#reduce(copy.memory, vector, { ...rest, residual: copy.residual }, signal);
      residual.set(copy.residual.subarray(0, residual.length));
    }
    buffer.set(vector);
  }

  async #reduce(
    memory: RingMemory,
    vector: Float32Array,
    options: AllReduceOptions,
    signal: AbortSignal,
  ): Promise<void> {
    const { partners } = this.#options;
    if (!partners) return this.#circulate(memory, vector, options, signal);
    // What rounding loses of a partial sum would be lost on all ranks of a group, and remembered by each.
    assert((options.wire ?? "f32") === "f32", "lossy wires go round a ring");
    const place = { rank: this.rank, worldSize: this.worldSize, operation: this.#operation };
    const at = { memory, vector: vector.byteOffset, elementCount: vector.length };
    await sumByDoubling(
      { ...place, ...at, partners, segmentBytes: this.#segmentBytes, window: this.#window },
      signal,
    );
  }

  async #circulate(
    memory: RingMemory,
    vector: Float32Array,
    { wire = "f32", exactTail = 0, residual }: AllReduceOptions,
    signal: AbortSignal,
  ): Promise<void> {
    const links = this.#options.links!;
    const { upstream, downstream } = links;
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
    await carry(circulation, links, { pendingMax: window, signal });
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
