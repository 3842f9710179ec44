import type { Socket } from "node:net";
import { encodeFrame } from "./frame-format.ts";
import type { Frame } from "./frame-socket.ts";

/** More in one write gains nothing: TLS takes 160 KB a turn of the event loop, a socket's send buffer about as much. */
const writeBytesMax = 5 * 65_536;

/**
 * Frames to one socket, one write at a time. Frames that lie side by side in memory leave as one: Node would copy a
 * list of pieces into a new buffer before it encrypts them.
 */
export class FrameSender {
  readonly #socket: Socket;
  readonly #queue: Buffer[] = [];
  #isWriting = false;
  #isEnding = false;
  pendingCount = 0;
  /** Frames that have left this process; those of one write do so together. */
  leftCount = 0;
  bytesSent = 0;
  /** Called when frames have left. */
  onLeft: () => void = () => {};

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  send(frame: Frame): void {
    this.#queue.push(encodeFrame(frame));
    this.pendingCount++;
    if (!this.#isWriting) this.#write();
  }

  /** Ends the socket when everything that was sent has left. */
  end(): void {
    this.#isEnding = true;
    // Not `end`: a peer that never closes its half would keep the socket for ever.
    if (!this.#isWriting) this.#socket.destroySoon();
  }

  #write(): void {
    let count = 1;
    let bytes = this.#queue[0]!;
    for (; count < this.#queue.length; count++) {
      const next = this.#queue[count]!;
      const length = bytes.length + next.length;
      const isNeighbour = next.buffer === bytes.buffer && next.byteOffset === bytes.byteOffset + bytes.length;
      if (!isNeighbour || length > writeBytesMax) break;
      bytes = Buffer.from(bytes.buffer, bytes.byteOffset, length);
    }
    this.#queue.splice(0, count);
    this.#isWriting = true;
    this.bytesSent += bytes.length;
    let isOver = false;
    const left = (error?: Error | null) => {
      if (isOver) return;
      isOver = true;
      if (error) return; // the socket closes, and says why
      this.#isWriting = false;
      this.pendingCount -= count;
      this.leftCount += count;
      if (this.#queue.length > 0) this.#write();
      else if (this.#isEnding) this.#socket.destroySoon();
      this.onLeft();
    };
    this.#socket.write(bytes, left);
    // What the kernel took at once need not wait for a turn of the event loop: its memory is used again while it is in the cache.
    if (this.#socket.writableLength === 0 && !this.#socket.errored && !this.#socket.destroyed) left();
  }
}
