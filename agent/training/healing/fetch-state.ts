import { decode } from "../../../protocol/codec.ts";
import { RingfoldError, toRingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import type { Clock } from "../../../protocol/ports.ts";
import { type Frame, type FrameSocket, frameKind } from "../../network/data-plane/frame-socket.ts";
import {
  announcementSchema,
  askBlockFrame,
  askDigestFrame,
  blockCount,
  blockRange,
  stateDigestSchema,
  stateFrame,
  unexpectedFrame,
} from "./state-frames.ts";
import type { DigestState } from "./state-source.ts";

/**
 * Copies a state from several ranks that hold the same one, each giving the blocks that it has time for: a slow one gives
 * few. One that breaks off is done without as long as another is left: a source that has nothing more to give is kept until
 * the last block is here. Believed only when the digest is that of all of them.
 *
 * @throws RingfoldError ARTEFACT_CORRUPT | MESSAGE_INVALID | RING_BROKEN | HOP_TIMEOUT | CANCELLED
 * Cost: one pass over the network; the memory of the state.
 */
export async function fetchState(
  sockets: readonly FrameSocket[],
  { digestState, clock }: { readonly digestState: DigestState; readonly clock: Clock },
  signal: AbortSignal,
): Promise<Uint8Array> {
  const copy = new StateCopy(clock);
  const outcomes = await Promise.allSettled(sockets.map((socket) => copy.readFrom(socket, signal)));
  const failures = outcomes.flatMap((outcome) => (outcome.status === "rejected" ? [outcome.reason] : []));
  const { bytes, isComplete } = copy;
  if (!bytes || !isComplete) throw toRingfoldError(failures[0], "RING_BROKEN");
  const own = await digestState(bytes);
  for (const [index, outcome] of outcomes.entries()) {
    if (outcome.status === "rejected" || outcome.value === own) continue;
    const { peerId } = sockets[index]!;
    throw new RingfoldError("ARTEFACT_CORRUPT", `the state does not match its digest at ${peerId}`, {
      peer: peerId,
    });
  }
  return bytes;
}

/** A state as it comes together, block by block. */
class StateCopy {
  bytes: Uint8Array | undefined;
  /** Blocks that nobody was asked for, or whose source broke off. */
  #wanted: number[] = [];
  #missing = 0;
  readonly #idle = new Set<() => void>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get isComplete(): boolean {
    return this.bytes !== undefined && this.#missing === 0;
  }

  /** Takes blocks from one source until none is missing. @returns the digest that this source names */
  async readFrom(socket: FrameSocket, signal: AbortSignal): Promise<string> {
    const asked = new Map<number, { received: number; nextPart: number }>();
    try {
      this.#begin(socket, await socket.receive(signal));
      for (;;) {
        this.#ask(socket, asked);
        if (asked.size > 0) await this.#take(socket, asked, signal);
        else if (this.isComplete) break;
        else if ((await this.#untilWork(socket.hopTimeoutMs / 3, signal)) === "idle") {
          // A source takes whoever asks for nothing in the time of a hop for stalled; this tells each that the other is there.
          await this.#askDigest(socket, signal);
        }
      }
      return await this.#askDigest(socket, signal);
    } finally {
      this.#wanted.push(...asked.keys());
      this.#wakeIdle();
    }
  }

  async #askDigest(socket: FrameSocket, signal: AbortSignal): Promise<string> {
    socket.send(askDigestFrame());
    const answer = await socket.receive(signal);
    if (answer.kind !== frameKind.state || answer.a !== stateFrame.digest)
      throw unexpectedFrame(socket.peerId, answer);
    return decode(answer.payload, stateDigestSchema, limits.segmentBytes).digest;
  }

  #begin(socket: FrameSocket, frame: Frame): void {
    if (frame.kind !== frameKind.state || frame.a !== stateFrame.announcement)
      throw unexpectedFrame(socket.peerId, frame);
    const { bytes } = decode(frame.payload, announcementSchema, limits.segmentBytes);
    if (!this.bytes) {
      this.bytes = new Uint8Array(bytes);
      this.#missing = blockCount(bytes);
      this.#wanted = Array.from({ length: this.#missing }, (_, i) => this.#missing - 1 - i);
    } else if (this.bytes.length !== bytes) {
      throw new RingfoldError("ARTEFACT_CORRUPT", `${socket.peerId} has a state of another length`, {
        ...{ peer: socket.peerId, bytes, expectedBytes: this.bytes.length },
      });
    }
  }

  #ask(socket: FrameSocket, asked: Map<number, { received: number; nextPart: number }>): void {
    while (asked.size < limits.stateBlocksAhead && this.#wanted.length > 0) {
      const block = this.#wanted.pop()!;
      asked.set(block, { received: 0, nextPart: 0 });
      socket.send(askBlockFrame(block));
    }
  }

  /** Parts until a block is whole. */
  async #take(
    socket: FrameSocket,
    asked: Map<number, { received: number; nextPart: number }>,
    signal: AbortSignal,
  ): Promise<void> {
    const bytes = this.bytes!;
    const take = (frame: Frame): boolean => {
      const { kind, a: type, b: block, c: part, payload } = frame;
      const progress = asked.get(block);
      const { start, end } = blockRange(block, bytes.length);
      const isExpected =
        kind === frameKind.state && type === stateFrame.part && progress && part === progress.nextPart;
      if (!isExpected || payload.length === 0 || start + progress.received + payload.length > end)
        throw unexpectedFrame(socket.peerId, frame);
      bytes.set(payload, start + progress.received);
      progress.received += payload.length;
      progress.nextPart++;
      if (start + progress.received < end) return true;
      asked.delete(block);
      if (--this.#missing === 0) this.#wakeIdle();
      return false;
    };
    if (socket.receiveEach) return socket.receiveEach(take, signal);
    while (take(await socket.receive(signal)));
  }

  /** Others read the last blocks: they may yet come back to us. */
  #untilWork(idleMs: number, signal: AbortSignal): Promise<"work" | "idle"> {
    return new Promise((resolve, reject) => {
      const settle = (outcome: "work" | "idle") => {
        this.#idle.delete(wake);
        signal.removeEventListener("abort", wake);
        cancelTimer();
        if (signal.aborted) reject(new RingfoldError("CANCELLED", "the healing was cancelled"));
        else resolve(outcome);
      };
      const wake = () => settle("work");
      const cancelTimer = this.#clock.after(idleMs, () => settle("idle"));
      this.#idle.add(wake);
      signal.addEventListener("abort", wake);
      if (signal.aborted) wake();
    });
  }

  #wakeIdle(): void {
    for (const wake of [...this.#idle]) wake();
  }
}
