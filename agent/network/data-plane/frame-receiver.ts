import assert from "node:assert";
import { RingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import { frameBytes, frameHeaderBytes, payloadBytesMax } from "./frame-format.ts";
import type { Frame, PlaceFrame, TakeFrame } from "./frame-socket.ts";

/** Bytes that TLS may still hand over after it was told to pause: one read of 64 KiB and a record. */
const lateBytesMax = 65_536 + 16_384 + 1_024;

interface Consumer {
  readonly take: TakeFrame;
  readonly place: PlaceFrame | undefined;
  readonly resolve: () => void;
  readonly reject: (cause: unknown) => void;
}

/**
 * From the bytes of one socket to frames, without copying them: they arrive in a region, and a frame is a view of it.
 *
 * The socket asks for a place before each read and keeps it until the read is done, so bytes in the region are only
 * moved when it asks. Reading pauses while more than half of the region waits to be taken.
 */
export class FrameReceiver {
  readonly #region: Uint8Array;
  readonly #view: DataView;
  /** First byte that was not taken, and end of what arrived. */
  #start = 0;
  #end = 0;
  /** Where `#end` must be before there is anything new to hand out. */
  #wanted = frameHeaderBytes;
  /** Places for the next bytes by their offset in units of a header: making a view costs more than the rest of a read. */
  readonly #targets: Uint8Array[] = [];
  #consumer: Consumer | undefined;
  /** A frame whose payload arrives where its consumer wants it, and how much of it is there. */
  #placed: { readonly frame: Frame; receivedBytes: number } | undefined;
  /** The socket was given a piece of `#placed` to write to, not of the region. */
  #targetIsPlaced = false;
  /** The consumer takes its time with the last frame. */
  #holding = false;
  /** Why no more bytes will come. */
  #ended: RingfoldError | undefined;
  /** For messages. */
  peerId = "a peer";
  /** Lets the socket read again. */
  resume: () => void = () => {};
  takenCount = 0;
  bytesReceived = 0;

  constructor(region: Uint8Array = new Uint8Array(limits.receiveRegionBytes)) {
    assert(region.length / 4 >= Math.max(frameBytes(payloadBytesMax), lateBytesMax));
    this.#region = region;
    this.#view = new DataView(region.buffer, region.byteOffset, region.length);
  }

  /** For `net.connect` and `tls.connect`; sockets of a server cannot take it and use `push`. */
  readonly onread = {
    buffer: (): Buffer => this.#target() as Buffer,
    callback: (bytes: number): boolean => {
      this.#arrived(bytes);
      return !this.#isFull;
    },
  };

  /** Takes what a socket that cannot take `onread` received. @returns whether it may go on reading */
  push(chunk: Uint8Array): boolean {
    for (let taken = 0; taken < chunk.length; ) {
      const target = this.#target();
      const part = chunk.subarray(taken, taken + target.length);
      target.set(part);
      taken += part.length;
      this.#arrived(part.length);
    }
    return !this.#isFull;
  }

  /** True while the last frame has not been answered for: then it is not the peer who is slow. */
  get isHolding(): boolean {
    return this.#holding;
  }

  /** Hands frames to `take`, those first that are here already, until it wants no more. One consumer at a time. */
  consume(take: TakeFrame, place?: PlaceFrame): Promise<void> {
    assert(!this.#consumer, "one consumer at a time");
    return new Promise((resolve, reject) => {
      this.#consumer = { take, place, resolve, reject };
      this.#deliver();
    });
  }

  /** No more bytes will come. What is here already can still be taken; then every wait ends with `cause`. */
  end(cause: RingfoldError): void {
    this.#ended ??= cause;
    this.#deliver();
  }

  /** Ends the wait of the consumer, if there is one. */
  fail(cause: unknown): void {
    const consumer = this.#consumer;
    this.#consumer = undefined;
    consumer?.reject(cause);
  }

  get #isFull(): boolean {
    return this.#end - this.#start > this.#region.length / 2;
  }

  #arrived(bytes: number): void {
    this.bytesReceived += bytes;
    if (this.#targetIsPlaced) {
      this.#placed!.receivedBytes += bytes;
      if (this.#placed!.receivedBytes === this.#placed!.frame.payload.length) this.#deliver();
      return;
    }
    this.#end += bytes;
    if (this.#end >= this.#wanted) this.#deliver();
  }

  /** Where the next bytes go; never empty. */
  #target(): Uint8Array {
    this.#placeNext();
    const { frame, receivedBytes } = this.#placed ?? {};
    this.#targetIsPlaced = frame !== undefined && receivedBytes! < frame.payload.length;
    if (this.#targetIsPlaced) return frame!.payload.subarray(receivedBytes) as Uint8Array;
    const quarter = this.#region.length / 4;
    if (this.#start === this.#end || (this.#region.length - this.#end < quarter && this.#start > 0)) {
      if (this.#start < this.#end) this.#region.copyWithin(0, this.#start, this.#end);
      this.#wanted -= this.#start;
      this.#end -= this.#start;
      this.#start = 0;
    }
    // A header by itself, so that the payload can follow to another place.
    if (this.#start === this.#end && this.#consumer?.place && !this.#placed)
      return this.#region.subarray(this.#end, this.#end + frameHeaderBytes);
    const slot = this.#end / frameHeaderBytes;
    const known = this.#targets[slot];
    if (known) return known;
    const target = this.#region.subarray(this.#end, this.#end + quarter);
    assert(target.length > 0, "the socket went on after it was paused");
    if (Number.isInteger(slot)) this.#targets[slot] = target;
    return target;
  }

  /** Asks the consumer where the payload of a frame shall go of which the header is here, and moves what is here of it. */
  #placeNext(): void {
    const available = this.#end - this.#start;
    const place = this.#consumer?.place;
    if (!place || this.#placed || available < frameHeaderBytes) return;
    const { payloadBytes, ...frame } = this.#header();
    const isWhole = available >= frameBytes(payloadBytes);
    if (isWhole || payloadBytes % frameHeaderBytes !== 0 || payloadBytes > payloadBytesMax) return;
    const payload = place({ ...frame, payloadBytes });
    if (!payload) return;
    payload.set(this.#region.subarray(this.#start + frameHeaderBytes, this.#end));
    this.#placed = { frame: { ...frame, payload }, receivedBytes: available - frameHeaderBytes };
    this.#start = this.#end;
    this.#wanted = this.#start + frameHeaderBytes;
  }

  #header(): Omit<Frame, "payload"> & { readonly payloadBytes: number } {
    const word = (index: number): number => this.#view.getUint32(this.#start + 4 * index, true);
    return { kind: word(0), a: word(1), b: word(2), c: word(3), d: word(4), payloadBytes: word(5) };
  }

  #deliver(): void {
    const wasFull = this.#isFull;
    try {
      while (this.#consumer && !this.#holding && this.#deliverOne(this.#consumer));
      if (this.#ended && !this.#holding) this.fail(this.#ended);
    } catch (cause) {
      this.fail(cause);
    }
    if (wasFull && !this.#isFull) this.resume();
  }

  /** @returns whether there may be another */
  #deliverOne(consumer: Consumer): boolean {
    if (this.#placed) return this.#deliverPlaced(consumer, this.#placed);
    const available = this.#end - this.#start;
    this.#wanted = this.#start + frameHeaderBytes;
    if (available < frameHeaderBytes) return false;
    const { payloadBytes: length, ...header } = this.#header();
    if (length > payloadBytesMax) {
      throw new RingfoldError("MESSAGE_TOO_LARGE", `frame of ${length} bytes from ${this.peerId}`, {
        peer: this.peerId,
        bytes: length,
        bytesMax: payloadBytesMax,
      });
    }
    this.#wanted = this.#start + frameBytes(length);
    if (available < frameBytes(length)) return false;
    const from = this.#start + frameHeaderBytes;
    const payload = this.#region.subarray(from, from + length);
    this.#start += frameBytes(length);
    return this.#hand(consumer, { ...header, payload });
  }

  #deliverPlaced(
    consumer: Consumer,
    { frame, receivedBytes }: { readonly frame: Frame; readonly receivedBytes: number },
  ): boolean {
    if (receivedBytes < frame.payload.length) return false;
    this.#placed = undefined;
    return this.#hand(consumer, frame);
  }

  /** @returns whether there may be another */
  #hand(consumer: Consumer, frame: Frame): boolean {
    this.takenCount++;
    const answer = consumer.take(frame);
    if (answer === true) return true;
    if (answer === false) this.#finish(consumer);
    else this.#hold(consumer, answer);
    return false;
  }

  #hold(consumer: Consumer, answer: Promise<boolean>): void {
    this.#holding = true;
    answer.then(
      (more) => {
        this.#holding = false;
        if (!more) this.#finish(consumer);
        else this.#deliver();
      },
      (cause) => {
        this.#holding = false;
        this.fail(cause);
      },
    );
  }

  #finish(consumer: Consumer): void {
    if (this.#consumer !== consumer) return;
    this.#consumer = undefined;
    consumer.resolve();
  }
}
