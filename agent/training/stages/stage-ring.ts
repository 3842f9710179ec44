import type { AllReduceOptions, RingPort } from "../../ring/port.ts";
import type { Ring } from "../../ring/ring.ts";
import type { Column } from "./column.ts";

/**
 * One rank's links for a generation of a job with stages: the ring of those that have the same stage, and the column of those
 * that have the same replica. Sums are over the ring; a barrier is over all ranks.
 */
export class StageRing implements RingPort {
  readonly rank: number;
  readonly worldSize: number;
  readonly replicas: Ring;
  readonly column: Column;
  readonly #linkBytesMax: number;

  /** @param linkBytesMax after so many bytes on a link this asks to be formed anew */
  constructor(of: { readonly replicas: Ring; readonly column: Column; readonly linkBytesMax: number }) {
    this.replicas = of.replicas;
    this.column = of.column;
    this.#linkBytesMax = of.linkBytesMax;
    this.rank = of.column.stage * of.replicas.worldSize + of.replicas.rank;
    this.worldSize = of.column.stageCount * of.replicas.worldSize;
  }

  get sentBytes(): number {
    return this.replicas.sentBytes + this.column.sentBytes;
  }

  get busyMs(): number {
    return this.replicas.busyMs + this.column.waitedMs;
  }

  get isWornOut(): boolean {
    return this.replicas.isWornOut || this.column.isWornOut(this.#linkBytesMax);
  }

  set hopTimeoutMs(timeoutMs: number) {
    this.replicas.hopTimeoutMs = timeoutMs;
    this.column.hopTimeoutMs = timeoutMs;
  }

  allReduce(buffer: Float32Array, signal: AbortSignal, options?: AllReduceOptions): Promise<void> {
    return this.#orDestroy(() => this.replicas.allReduce(buffer, signal, options));
  }

  allGather(
    payload: Uint8Array,
    signal: AbortSignal,
    options: { readonly payloadBytesMax: number },
  ): Promise<readonly Uint8Array[]> {
    return this.#orDestroy(() => this.replicas.allGather(payload, signal, options));
  }

  async barrier(signal: AbortSignal): Promise<void> {
    await this.#orDestroy(async () => {
      await this.replicas.barrier(signal);
      await this.column.sum(new Float64Array(1), signal);
    });
  }

  throwIfBroken(): void {
    this.replicas.throwIfBroken();
    this.column.throwIfBroken();
  }

  destroy(): void {
    this.replicas.destroy();
    this.column.destroy();
  }

  /** A rank whose ring breaks takes its column along, and so all others. */
  async #orDestroy<Result>(work: () => Promise<Result>): Promise<Result> {
    try {
      return await work();
    } catch (cause) {
      this.destroy();
      throw cause;
    }
  }
}
