import type { Socket } from "node:net";
import { RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import type { Frame, FrameSocket } from "./frame-socket.ts";

const headerBytes = 24;
/** Pause reading beyond four segments: enough to keep the pipe full, small enough to stay in cache. */
const bufferedBytesMax = 4 * limits.segmentBytes;
/** A frame is a segment, a hello or a piece of state: never more. */
const payloadBytesMax = limits.segmentBytes;

/**
 * Frames over one dedicated socket (TLS or plain): a 24-byte header of six little-endian u32, then the payload.
 * Pull-based: bytes wait in a bounded buffer, the socket is paused beyond it, and `receive` hands out one frame a call.
 */
export class DataSocket implements FrameSocket {
  peerId: string;
  readonly #socket: Socket;
  readonly #hopTimeoutMs: number;
  #chunks: Buffer[] = [];
  #bufferedBytes = 0;
  #pendingWrites = 0;
  #closed: RingfoldError | undefined;
  /** The one waiter for bytes and the one for an empty write queue; woken on every change. */
  #wakeReader: (() => void) | undefined;
  #wakeWriter: (() => void) | undefined;
  readonly #payload = Buffer.alloc(payloadBytesMax);
  bytesSent = 0;
  bytesReceived = 0;

  constructor(socket: Socket, options: { readonly peerId: string; readonly hopTimeoutMs?: number }) {
    this.peerId = options.peerId;
    this.#socket = socket;
    this.#hopTimeoutMs = options.hopTimeoutMs ?? limits.hopTimeoutMs;
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => this.#push(chunk));
    socket.on("error", (cause) => this.#close(cause));
    socket.on("close", () => this.#close());
    socket.on("end", () => this.#close());
  }

  send(frame: Frame): void {
    if (this.#closed) return; // the reader learns of it; a writer in the middle of an operation need not
    const header = Buffer.allocUnsafe(headerBytes);
    const words = [frame.kind, frame.a, frame.b, frame.c, frame.d, frame.payload.byteLength];
    for (const [i, word] of words.entries()) header.writeUInt32LE(word, 4 * i);
    this.#pendingWrites++;
    this.bytesSent += headerBytes + frame.payload.byteLength;
    this.#socket.cork();
    this.#socket.write(header);
    this.#socket.write(frame.payload, () => {
      this.#pendingWrites--;
      this.#wakeWriter?.();
    });
    this.#socket.uncork();
  }

  async receive(signal: AbortSignal): Promise<Frame> {
    await this.#until(() => this.#bufferedBytes >= headerBytes, "reader", signal);
    const header = Buffer.allocUnsafe(headerBytes);
    this.#take(header);
    const [kind, a, b, c, d, length] = Array.from({ length: 6 }, (_, i) => header.readUInt32LE(4 * i)) as [
      number,
      number,
      number,
      number,
      number,
      number,
    ];
    if (length > payloadBytesMax) {
      this.destroy();
      throw new RingfoldError("MESSAGE_TOO_LARGE", `frame of ${length} bytes from ${this.peerId}`, {
        peer: this.peerId,
        bytes: length,
        bytesMax: payloadBytesMax,
      });
    }
    await this.#until(() => this.#bufferedBytes >= length, "reader", signal);
    const payload = this.#payload.subarray(0, length);
    this.#take(payload);
    return { kind, a, b, c, d, payload };
  }

  async drained(signal: AbortSignal): Promise<void> {
    await this.#until(() => this.#pendingWrites === 0, "writer", signal);
  }

  end(): void {
    this.#socket.end();
  }

  destroy(): void {
    this.#socket.destroy();
    this.#close();
  }

  #push(chunk: Buffer): void {
    this.#chunks.push(chunk);
    this.#bufferedBytes += chunk.length;
    this.bytesReceived += chunk.length;
    if (this.#bufferedBytes > bufferedBytesMax) this.#socket.pause();
    this.#wakeReader?.();
  }

  #take(into: Uint8Array): void {
    let filled = 0;
    while (filled < into.length) {
      const chunk = this.#chunks[0]!;
      const part = chunk.subarray(0, into.length - filled);
      into.set(part, filled);
      filled += part.length;
      if (part.length === chunk.length) this.#chunks.shift();
      else this.#chunks[0] = chunk.subarray(part.length);
    }
    this.#bufferedBytes -= into.length;
    if (this.#bufferedBytes <= bufferedBytesMax && this.#socket.isPaused()) this.#socket.resume();
  }

  async #until(condition: () => boolean, side: "reader" | "writer", signal: AbortSignal): Promise<void> {
    if (condition()) return;
    let timedOut = false;
    const wake = () => (side === "reader" ? this.#wakeReader?.() : this.#wakeWriter?.());
    const timer = setTimeout(() => {
      timedOut = true;
      wake();
    }, this.#hopTimeoutMs);
    signal.addEventListener("abort", wake);
    try {
      while (!condition()) {
        if (this.#closed) throw this.#closed;
        if (signal.aborted)
          throw new RingfoldError("CANCELLED", "the wait was cancelled", { peer: this.peerId });
        if (timedOut) throw this.#stalled(side);
        await new Promise<void>((resolve) => {
          if (side === "reader") this.#wakeReader = resolve;
          else this.#wakeWriter = resolve;
        });
      }
    } finally {
      clearTimeout(timer);
      signal.removeEventListener("abort", wake);
      if (side === "reader") this.#wakeReader = undefined;
      else this.#wakeWriter = undefined;
    }
  }

  #stalled(side: "reader" | "writer"): RingfoldError {
    const what = side === "reader" ? "sent nothing" : "took nothing";
    return new RingfoldError("HOP_TIMEOUT", `${this.peerId} ${what} for ${this.#hopTimeoutMs} ms`, {
      peer: this.peerId,
      elapsedMs: this.#hopTimeoutMs,
    });
  }

  #close(cause?: unknown): void {
    this.#closed ??= new RingfoldError(
      "RING_BROKEN",
      `the link to ${this.peerId} closed`,
      { peer: this.peerId },
      { cause },
    );
    this.#wakeReader?.();
    this.#wakeWriter?.();
  }
}
