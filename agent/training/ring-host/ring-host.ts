import type { GenerationPlan } from "../../../protocol/messages/job.ts";
import type { AdmissionPlan } from "../../network/data-plane/admission.ts";
import type { RingMemory } from "../../ring/memory.ts";
import type { RingPort } from "../../ring/port.ts";

/**
 * What a trainer has on the data plane, whichever thread that lives in: its ends of rings, its state for ranks that heal,
 * and the way to the states of others.
 */
export interface RingHost {
  /** Of the data plane. */
  readonly port: number;
  /**
   * Lets in the members of the plan, and links with both neighbours.
   * @param memory holds the vectors that this ring sums in place; of one ring at a time
   * @throws RingfoldError PEER_UNREACHABLE | PEER_IDENTITY | NOT_A_MEMBER | STALE_GENERATION | REQUEST_TIMEOUT | RING_BROKEN
   */
  link(plan: GenerationPlan, memory: RingMemory, signal: AbortSignal): Promise<RingPort>;
  /** Holds `state` ready for the ranks of `plan` until `withdraw`; to be called before `link`. It is the host's now. */
  offer(plan: AdmissionPlan, state: Uint8Array): void;
  withdraw(): void;
  /** A copy of the state of the plan's start. @throws as `fetchStartState` */
  fetchStart(plan: GenerationPlan, signal: AbortSignal): Promise<Uint8Array>;
  close(): Promise<void>;
}

export const admissionOf = ({ jobId, generation, ranks }: GenerationPlan): AdmissionPlan => ({
  ...{ jobId, generation },
  peerIds: ranks.map(({ peerId }) => peerId),
});
