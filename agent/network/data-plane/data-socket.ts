import type { Socket } from "node:net";
import { RingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import { type Clock, systemClock } from "../../../protocol/ports.ts";
import { FrameReceiver } from "./frame-receiver.ts";
import { FrameSender } from "./frame-sender.ts";
import type { Frame, FrameSocket, PlaceFrame, TakeFrame } from "./frame-socket.ts";

export interface DataSocketOptions {
  readonly peerId: string;
  /** Its `onread` is with the socket already; without one the socket's events bring the bytes. */
  readonly receiver?: FrameReceiver;
  readonly clock?: Clock;
}

/** Frames over one dedicated socket, TLS or plain. */
export class DataSocket implements FrameSocket {
  readonly #socket: Socket;
  readonly #receiver: FrameReceiver;
  readonly #sender: FrameSender;
  hopTimeoutMs: number = limits.hopTimeoutMs;
  readonly #clock: Clock;
  #peerId: string;
  #closed: RingfoldError | undefined;
  readonly #closing = new AbortController();
  /** Who waits for the write queue; woken on every change. */
  #wakeWriter: (() => void) | undefined;

  constructor(socket: Socket, options: DataSocketOptions) {
    this.#socket = socket;
    this.#receiver = options.receiver ?? new FrameReceiver();
    this.#sender = new FrameSender(socket);
    this.#clock = options.clock ?? systemClock;
    this.#peerId = this.#receiver.peerId = options.peerId;
    this.#receiver.resume = () => void socket.resume();
    this.#sender.onLeft = () => this.#wakeWriter?.();
    socket.setNoDelay(true);
    // Between operations nobody waits for the peer, and a half-open link would stand for ever.
    socket.setKeepAlive(true, limits.linkKeepAliveMs);
    if (!options.receiver) {
      socket.on("data", (chunk: Buffer) => {
        if (!this.#receiver.push(chunk)) socket.pause();
      });
    }
    socket.on("error", (cause) => this.#close(cause));
    socket.on("close", () => this.#close());
    socket.on("end", () => this.#close());
  }

  get peerId(): string {
    return this.#peerId;
  }

  set peerId(peerId: string) {
    this.#peerId = this.#receiver.peerId = peerId;
  }

  get pendingCount(): number {
    return this.#sender.pendingCount;
  }

  get closed(): AbortSignal {
    return this.#closing.signal;
  }

  get bytesSent(): number {
    return this.#sender.bytesSent;
  }

  get bytesReceived(): number {
    return this.#receiver.bytesReceived;
  }

  send(frame: Frame): void {
    if (this.#closed) return; // the reader learns of it; a writer in the middle of an operation need not
    this.#sender.send(frame);
  }

  async receive(signal: AbortSignal): Promise<Frame> {
    let received: Frame | undefined;
    await this.receiveEach((frame) => {
      received = { ...frame, payload: frame.payload.slice() };
      return false;
    }, signal);
    return received!;
  }

  async receiveEach(take: TakeFrame, signal: AbortSignal, place?: PlaceFrame): Promise<void> {
    const fail = (cause: unknown) => this.#receiver.fail(cause);
    const onAbort = () => fail(this.#cancelled());
    const taken = this.#receiver.consume(take, place);
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort);
    // While our own side takes its time with a frame it is not the peer who is slow.
    const progress = () => (this.#receiver.isHolding ? undefined : this.#receiver.takenCount);
    const cancelTimer = this.#watch(progress, () => fail(this.#stalled("sent no whole frame")));
    try {
      await taken;
    } catch (cause) {
      if (cause instanceof RingfoldError && cause.code === "MESSAGE_TOO_LARGE") this.destroy();
      throw cause;
    } finally {
      cancelTimer();
      signal.removeEventListener("abort", onAbort);
    }
  }

  /**
   * Calls `onStall` when no whole frame went by for the time of a hop: a byte now and then does not count, and however
   * slow a link is, a frame starts the time anew.
   * @param progress of frames; undefined while nobody waits for the peer
   */
  #watch(progress: () => number | undefined, onStall: () => void): () => void {
    let before = progress();
    let silentQuarters = 0;
    let cancel = () => {};
    // Four looks in the time of a hop, instead of a new timer for each frame.
    const watch = () => {
      cancel = this.#clock.after(this.hopTimeoutMs / 4, () => {
        const now = progress();
        silentQuarters = now === before && now !== undefined ? silentQuarters + 1 : 0;
        if (silentQuarters === 4) return onStall();
        before = now ?? before;
        watch();
      });
    };
    watch();
    return () => cancel();
  }

  async drained(signal: AbortSignal, pendingMax = 0): Promise<void> {
    if (this.pendingCount <= pendingMax) return;
    let timedOut = false;
    const wake = () => this.#wakeWriter?.();
    const cancelTimer = this.#watch(
      () => this.#sender.leftCount,
      () => {
        timedOut = true;
        wake();
      },
    );
    signal.addEventListener("abort", wake);
    try {
      while (this.pendingCount > pendingMax) {
        if (this.#closed) throw this.#closed;
        if (signal.aborted) throw this.#cancelled();
        if (timedOut) throw this.#stalled("took no whole frame");
        await new Promise<void>((resolve) => {
          this.#wakeWriter = resolve;
        });
      }
    } finally {
      cancelTimer();
      signal.removeEventListener("abort", wake);
      this.#wakeWriter = undefined;
    }
  }

  end(): void {
    this.#sender.end();
  }

  destroy(): void {
    this.#socket.destroy();
    this.#close();
  }

  #cancelled(): RingfoldError {
    return new RingfoldError("CANCELLED", "the wait was cancelled", { peer: this.peerId });
  }

  #stalled(what: string): RingfoldError {
    const elapsedMs = Math.round(this.hopTimeoutMs);
    return new RingfoldError("HOP_TIMEOUT", `${this.peerId} ${what} for ${elapsedMs} ms`, {
      peer: this.peerId,
      elapsedMs,
    });
  }

  #close(cause?: unknown): void {
    this.#closed ??= new RingfoldError(
      "RING_BROKEN",
      `the link to ${this.peerId} closed`,
      { peer: this.peerId },
      { cause },
    );
    this.#receiver.end(this.#closed);
    if (!this.#closing.signal.aborted) this.#closing.abort(this.#closed);
    this.#wakeWriter?.();
  }
}
