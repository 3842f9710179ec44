import { RingfoldError } from "../../../protocol/errors.ts";
import type { RingMemory, VectorPlace } from "../../ring/memory.ts";
import type { AllReduceOptions, RingPort } from "../../ring/port.ts";
import type { CopiedVectors, RingFigures, ToRingThread } from "./ring-thread-messages.ts";

/** The way to the thread that a ring lives in. */
export interface RingThreadCalls {
  tell(message: ToRingThread): void;
  /** Numbers the message, and waits for its answer. */
  call<Value>(
    message: (call: number) => ToRingThread,
    signal: AbortSignal,
    onFigures?: (figures: RingFigures) => void,
  ): Promise<Value>;
}

const placeOf = ({ byteOffset, length }: Float32Array): VectorPlace => ({ byteOffset, length });

/** A ring in the ring thread, seen from the one that trains. Cost: two messages an operation, some 50 microseconds. */
export class ThreadedRing implements RingPort {
  readonly rank: number;
  readonly worldSize: number;
  readonly #thread: RingThreadCalls;
  readonly #id: number;
  readonly #memory: RingMemory;
  readonly #broken: Int32Array;
  readonly #peerIds: readonly string[];
  #figures: RingFigures = { sentBytes: 0, busyMs: 0, isWornOut: false };
  #hopTimeoutMs: number | undefined;
  #isDestroyed = false;

  constructor(of: {
    readonly thread: RingThreadCalls;
    /** The call that has linked it. */
    readonly id: number;
    readonly rank: number;
    readonly worldSize: number;
    readonly memory: RingMemory;
    readonly broken: SharedArrayBuffer;
    /** By rank. */
    readonly peerIds: readonly string[];
  }) {
    this.rank = of.rank;
    this.worldSize = of.worldSize;
    this.#thread = of.thread;
    this.#id = of.id;
    this.#memory = of.memory;
    this.#broken = new Int32Array(of.broken);
    this.#peerIds = of.peerIds;
  }

  get sentBytes(): number {
    return this.#figures.sentBytes;
  }

  get busyMs(): number {
    return this.#figures.busyMs;
  }

  get isWornOut(): boolean {
    return this.#figures.isWornOut;
  }

  async allReduce(
    buffer: Float32Array,
    signal: AbortSignal,
    { residual, ...options }: AllReduceOptions = {},
  ): Promise<void> {
    const isShared = this.#memory.owns(buffer);
    const isResidualShared = residual === undefined || this.#memory.owns(residual);
    if (!isShared || !isResidualShared)
      return this.#allReduceCopy(buffer, signal, { ...options, ...(residual ? { residual } : {}) });
    await this.#operate<void>(
      (call) => ({
        ...{ kind: "all-reduce", call, ring: this.#id, vector: placeOf(buffer), options },
        residual: residual && placeOf(residual),
      }),
      signal,
    );
  }

  async #allReduceCopy(buffer: Float32Array, signal: AbortSignal, options: AllReduceOptions): Promise<void> {
    const { residual, ...rest } = options;
    const copies = { vector: buffer.slice(), residual: residual?.slice() };
    const summed = await this.#operate<CopiedVectors["copies"]>(
      (call) => ({ kind: "all-reduce", call, ring: this.#id, copies, options: rest }),
      signal,
    );
    buffer.set(summed.vector);
    if (summed.residual) residual!.set(summed.residual);
  }

  allGather(
    payload: Uint8Array,
    signal: AbortSignal,
    { payloadBytesMax }: { readonly payloadBytesMax: number },
  ): Promise<readonly Uint8Array[]> {
    return this.#operate(
      (call) => ({ kind: "all-gather", call, ring: this.#id, payload, payloadBytesMax }),
      signal,
    );
  }

  async barrier(signal: AbortSignal): Promise<void> {
    await this.allReduce(new Float32Array(this.worldSize), signal);
  }

  set hopTimeoutMs(timeoutMs: number) {
    if (timeoutMs === this.#hopTimeoutMs) return;
    this.#hopTimeoutMs = timeoutMs;
    this.#thread.tell({ kind: "hop-timeout", ring: this.#id, timeoutMs });
  }

  throwIfBroken(): void {
    const broken = Atomics.load(this.#broken, 0);
    if (broken === 0) return;
    const peer = this.#peerIds[broken - 1]!;
    throw new RingfoldError("RING_BROKEN", `the link to ${peer} closed`, { peer });
  }

  destroy(): void {
    if (this.#isDestroyed) return;
    this.#isDestroyed = true;
    this.#thread.tell({ kind: "destroy", ring: this.#id });
  }

  async #operate<Value>(message: (call: number) => ToRingThread, signal: AbortSignal): Promise<Value> {
    if (this.#isDestroyed) throw new RingfoldError("RING_BROKEN", "this ring has ended");
    try {
      return await this.#thread.call<Value>(message, signal, (figures) => {
        this.#figures = figures;
      });
    } catch (cause) {
      if (signal.aborted) throw new RingfoldError("CANCELLED", "the operation was cancelled", {}, { cause });
      throw cause;
    }
  }
}
