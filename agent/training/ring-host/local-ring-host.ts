import type { GenerationPlan } from "../../../protocol/messages/job.ts";
import type { Clock } from "../../../protocol/ports.ts";
import type { AdmissionPlan } from "../../network/data-plane/admission.ts";
import type { DataPlane } from "../../network/data-plane/data-plane.ts";
import type { RingMemory } from "../../ring/memory.ts";
import type { Ring } from "../../ring/ring.ts";
import { fetchStartState } from "../healing/healing.ts";
import { type DigestState, StateSource } from "../healing/state-source.ts";
import { linkRing } from "../linking.ts";
import { admissionOf, type RingHost } from "./ring-host.ts";

interface LocalRingHostOptions {
  readonly peerId: string;
  readonly plane: DataPlane;
  readonly digestState: DigestState;
  readonly clock: Clock;
  /** Monotonic milliseconds. */
  readonly nowMs: () => number;
}

/** A ring host in the thread of whoever calls it: of the ring thread, or of a simulated trainer. */
export class LocalRingHost implements RingHost {
  readonly #options: LocalRingHostOptions;
  readonly #states: StateSource;

  constructor(options: LocalRingHostOptions) {
    this.#options = options;
    this.#states = new StateSource(options);
  }

  get port(): number {
    return this.#options.plane.port;
  }

  link(plan: GenerationPlan, memory: RingMemory, signal: AbortSignal): Promise<Ring> {
    const { peerId, plane, nowMs } = this.#options;
    plane.admit(admissionOf(plan));
    return linkRing(plan, { peerId, plane, memory, nowMs }, signal);
  }

  offer(plan: AdmissionPlan, state: Uint8Array): void {
    this.#states.offer(plan, state);
  }

  withdraw(): void {
    this.#states.withdraw();
  }

  fetchStart(plan: GenerationPlan, signal: AbortSignal): Promise<Uint8Array> {
    return fetchStartState(plan, this.#options, signal);
  }

  close(): Promise<void> {
    return this.#options.plane.close();
  }
}
