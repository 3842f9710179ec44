import assert from "node:assert";
import { RingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import { untilBroken } from "../../ring/carry.ts";
import { type PeerLinks, receiveEach, type Segment } from "../../ring/link.ts";

/** Which neighbour: the stage from which activations come, or the one that they go to. */
export type Side = "before" | "after";

/** What a message is. Codes travel; they are never used anew. */
const messageCode = { activations: 0, gradients: 1, totals: 2, bytes: 3 } as const;
type MessageKind = keyof typeof messageCode;

/** On one side: both ends count what was said in each direction. */
interface Line {
  readonly links: PeerLinks;
  sentCount: number;
  receivedCount: number;
}

/**
 * One rank's place among the ranks that hold the stages of one copy of the model: a connection to the stage before and one
 * to the stage after, for the length of one generation. A message is a run of segments, as a ring's are.
 *
 * When an operation throws, the column is dead: both links are destroyed, so the news runs through the stages, and from each
 * of them round its ring.
 */
export class Column {
  readonly stage: number;
  readonly stageCount: number;
  readonly #lines: ReadonlyMap<Side, Line>;
  readonly #nowMs: () => number;
  #waitedMs = 0;
  #isDestroyed = false;

  constructor(options: {
    readonly stage: number;
    readonly stageCount: number;
    readonly before?: PeerLinks | undefined;
    readonly after?: PeerLinks | undefined;
    /** Monotonic milliseconds. */
    readonly nowMs?: () => number;
  }) {
    const { stage, stageCount, before, after, nowMs = () => performance.now() } = options;
    assert((stage === 0) === (before === undefined) && (stage === stageCount - 1) === (after === undefined));
    this.stage = stage;
    this.stageCount = stageCount;
    this.#nowMs = nowMs;
    const lines = [["before", before] as const, ["after", after] as const];
    this.#lines = new Map(
      lines.flatMap(([side, links]) =>
        links ? [[side, { links, sentCount: 0, receivedCount: 0 }] as const] : [],
      ),
    );
  }

  get isFirst(): boolean {
    return this.stage === 0;
  }

  get isLast(): boolean {
    return this.stage === this.stageCount - 1;
  }

  /**
   * Queues a message. Nobody waits for it to leave: the schedule bounds how many are under way, and two neighbours that
   * waited for each other to take theirs would wait for ever.
   * @param payload not empty; must not be written on any more
   */
  send(to: Side, kind: MessageKind, payload: ArrayBufferView): void {
    const line = this.#line(to);
    const bytes = bytesOf(payload);
    assert(bytes.length > 0);
    const head = { operation: line.sentCount++, stage: messageCode[kind], elementCount: bytes.length };
    for (let from = 0, segmentIndex = 0; from < bytes.length; from += limits.segmentBytes, segmentIndex++) {
      const part = bytes.subarray(from, from + limits.segmentBytes);
      line.links.downstream.send({ ...head, segmentIndex, wireCode: 0, payload: part });
    }
  }

  /**
   * Waits for a message of exactly this kind and length.
   * @param into is overwritten
   * @throws RingfoldError RING_BROKEN | HOP_TIMEOUT | MESSAGE_INVALID | CANCELLED
   */
  async receive(from: Side, kind: MessageKind, into: ArrayBufferView, signal: AbortSignal): Promise<void> {
    const line = this.#line(from);
    const bytes = bytesOf(into);
    const operation = line.receivedCount++;
    let received = 0;
    const take = (segment: Segment): boolean => {
      const { payload, stage, elementCount, segmentIndex } = segment;
      const isExpected =
        stage === messageCode[kind] &&
        segment.operation === operation &&
        elementCount === bytes.length &&
        segmentIndex * limits.segmentBytes === received &&
        payload.length === Math.min(limits.segmentBytes, bytes.length - received);
      if (!isExpected) throw unexpected(line.links.upstream.peerId, segment, kind);
      bytes.set(payload, received);
      received += payload.length;
      return received < bytes.length;
    };
    // Who waits for one side must not wait when the other one has gone. Nobody ends first on the side that waits for us.
    const others = [...this.#lines.values()].filter((each) => each !== line);
    const watched = others.map(({ links }) => links.downstream);
    const startedAtMs = this.#nowMs();
    await this.#orDestroy(() =>
      untilBroken(watched, { isNeeded: () => true, signal }, (stop) =>
        receiveEach(line.links.upstream, take, stop),
      ),
    );
    this.#waitedMs += this.#nowMs() - startedAtMs;
  }

  /**
   * Sums numbers over the stages, in place, to the same bits on each: from the last stage to the first, and back. Also a
   * barrier: nobody passes before all have come.
   * @throws as `receive`
   */
  async sum(values: Float64Array, signal: AbortSignal): Promise<void> {
    const others = new Float64Array(values.length);
    if (!this.isLast) {
      await this.receive("after", "totals", others, signal);
      for (let i = 0; i < values.length; i++) values[i]! += others[i]!;
    }
    if (!this.isFirst) {
      this.send("before", "totals", values.slice());
      await this.receive("before", "totals", values, signal);
    }
    if (!this.isLast) this.send("after", "totals", values.slice());
    await this.left(signal);
  }

  /**
   * Resolves when what was sent has left, for whoever may close its links next. A neighbour that has all that it needs may have
   * closed its own before this rank knows that the last bytes have gone: that is no failure of what is done.
   * @throws RingfoldError HOP_TIMEOUT | CANCELLED
   */
  async left(signal: AbortSignal): Promise<void> {
    await this.drained(signal).catch((cause) => {
      if (!(cause instanceof RingfoldError && cause.code === "RING_BROKEN")) throw cause;
    });
  }

  /** Brings what the last stage gives to every stage. @throws as `receive` */
  async fromLast(payload: Uint8Array | undefined, signal: AbortSignal): Promise<Uint8Array> {
    const length = new Float64Array(1);
    let bytes = payload;
    if (!this.isLast) {
      await this.receive("after", "totals", length, signal);
      assert(length[0]! > 0 && length[0]! <= limits.controlMessageBytes);
      bytes = new Uint8Array(length[0]!);
      await this.receive("after", "bytes", bytes, signal);
    }
    assert(bytes);
    length[0] = bytes.length;
    if (!this.isFirst) {
      this.send("before", "totals", length);
      this.send("before", "bytes", bytes);
    }
    return bytes;
  }

  /** Resolves when at most `pendingMax` (0 unless told) segments wait to leave on each side. @throws as `receive` */
  async drained(signal: AbortSignal, pendingMax = 0): Promise<void> {
    for (const { links } of this.#lines.values()) await links.downstream.drained(signal, pendingMax);
  }

  /** Time that this rank has waited for its neighbours so far. */
  get waitedMs(): number {
    return this.#waitedMs;
  }

  get sentBytes(): number {
    return this.#sum(({ downstream }) => downstream.bytesSent);
  }

  /** A link has carried what it may under one key. */
  isWornOut(linkBytesMax: number): boolean {
    return [...this.#lines.values()].some(({ links }) => links.downstream.bytesSent > linkBytesMax);
  }

  /** How long a neighbour may send, or take, no whole segment while this rank waits for it. */
  set hopTimeoutMs(timeoutMs: number) {
    for (const { links } of this.#lines.values()) {
      links.upstream.hopTimeoutMs = timeoutMs;
      links.downstream.hopTimeoutMs = timeoutMs;
    }
  }

  /** @throws RingfoldError RING_BROKEN when a neighbour has closed its link */
  throwIfBroken(): void {
    for (const { links } of this.#lines.values())
      if (links.downstream.closed.aborted) throw links.downstream.closed.reason;
  }

  /** By this rank; a neighbour that has gone shows when it is needed. */
  get isDestroyed(): boolean {
    return this.#isDestroyed;
  }

  destroy(): void {
    this.#isDestroyed = true;
    for (const { links } of this.#lines.values()) {
      links.upstream.destroy();
      links.downstream.destroy();
    }
  }

  #line(side: Side): Line {
    const line = this.#lines.get(side);
    assert(line, `there is no stage ${side} stage ${this.stage}`);
    return line;
  }

  #sum(of: (links: PeerLinks) => number): number {
    return [...this.#lines.values()].reduce((sum, { links }) => sum + of(links), 0);
  }

  async #orDestroy(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (cause) {
      this.destroy();
      throw cause;
    }
  }
}

const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

function unexpected(peer: string, segment: Segment, kind: MessageKind): RingfoldError {
  const { operation, stage, segmentIndex, elementCount } = segment;
  return new RingfoldError("MESSAGE_INVALID", `${peer} sent another message than the ${kind} that are due`, {
    ...{ peer, operation, kind: stage, segmentIndex, bytes: elementCount },
  });
}
