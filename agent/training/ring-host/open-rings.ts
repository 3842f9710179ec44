import { RingfoldError } from "../../../protocol/errors.ts";
import type { RingMemory } from "../../ring/memory.ts";
import type { Ring } from "../../ring/ring.ts";

interface OpenRing {
  readonly ring: Pick<Ring, "allReduce" | "allGather" | "sentBytes" | "busyMs" | "isWornOut" | "destroy"> & {
    hopTimeoutMs: number;
  };
  readonly memory: RingMemory;
}

/**
 * The rings of a ring thread, by the call that has linked each. One whose operation has failed is dead and is not kept: its
 * links and its view of the memory would stay for as long as the thread, as nobody asks for it again.
 */
export class OpenRings {
  readonly #rings = new Map<number, OpenRing>();

  get count(): number {
    return this.#rings.size;
  }

  add(id: number, ring: OpenRing): void {
    this.#rings.set(id, ring);
  }

  get(id: number): OpenRing | undefined {
    return this.#rings.get(id);
  }

  /** @throws RingfoldError RING_BROKEN when it has ended, and what `operation` throws */
  async operate<Result>(id: number, operation: (ring: OpenRing) => Promise<Result>): Promise<Result> {
    const open = this.#rings.get(id);
    if (!open) throw new RingfoldError("RING_BROKEN", "this ring has ended");
    try {
      return await operation(open);
    } catch (cause) {
      this.end(id);
      throw cause;
    }
  }

  end(id: number): void {
    this.#rings.get(id)?.ring.destroy();
    this.#rings.delete(id);
  }
}
