import assert from "node:assert";
import type { GenerationPlan } from "../../../protocol/messages/job.ts";
import type { Clock } from "../../../protocol/ports.ts";
import type { AdmissionPlan } from "../../network/data-plane/admission.ts";
import type { DataPlane } from "../../network/data-plane/data-plane.ts";
import { ringLimits } from "../../network/data-plane/ring-links.ts";
import type { RingMemory } from "../../ring/memory.ts";
import { fetchStartState } from "../healing/healing.ts";
import { type DigestState, StateSource } from "../healing/state-source.ts";
import { linkPeers, linkRing } from "../linking.ts";
import { admissionOf, type RingHost } from "../ring-host/ring-host.ts";
import { Column } from "./column.ts";
import { neighboursOf, placeIn, planOfStage } from "./stage-plan.ts";
import { StageRing } from "./stage-ring.ts";

interface StageHostOptions {
  readonly peerId: string;
  readonly plane: DataPlane;
  readonly digestState: DigestState;
  readonly clock: Clock;
  /** Monotonic milliseconds. */
  readonly nowMs: () => number;
  /** The state that a checkpoint holds; null asks for the one before the first step. */
  readonly stateOf: (checkpoint: string | null, signal: AbortSignal) => Promise<Uint8Array>;
}

/**
 * The data plane of a rank in a job with stages. It is told of whole plans and gives each rank that of its stage: whoever
 * trains links, heals and starts with the ranks that share its parameters, and is linked with the stages beside it as well.
 */
export class StageHost implements RingHost {
  readonly #options: StageHostOptions;
  readonly #states: StateSource;
  /** Those that may still be linked: the newest two, as one ends while the next is told. */
  #plans: readonly GenerationPlan[] = [];

  constructor(options: StageHostOptions) {
    this.#options = options;
    this.#states = new StateSource(options);
  }

  get port(): number {
    return this.#options.plane.port;
  }

  /** @returns the plan of this rank's stage */
  adopt(plan: GenerationPlan): GenerationPlan {
    this.#plans = [plan, ...this.#plans].slice(0, 2);
    return planOfStage(plan, placeIn(plan, this.#options.peerId));
  }

  async link(stagePlan: GenerationPlan, memory: RingMemory, signal: AbortSignal): Promise<StageRing> {
    const { peerId, plane, nowMs } = this.#options;
    const plan = this.#whole(stagePlan);
    const place = placeIn(plan, peerId);
    const { before, after } = neighboursOf(place);
    plane.admit(admissionOf(plan));
    const failed = new AbortController();
    const either = AbortSignal.any([signal, failed.signal]);
    const orFail = <T>(work: Promise<T>): Promise<T> => {
      work.catch((cause) => failed.abort(cause));
      return work;
    };
    // The later stage dials, as the receiver of a ring does: most of what crosses are activations.
    const ranks = {
      dials: before === undefined ? [] : [before],
      accepts: after === undefined ? [] : [after],
    };
    const [ring, links] = await Promise.allSettled([
      orFail(linkRing(stagePlan, { peerId, plane, memory, nowMs }, either)),
      orFail(linkPeers(plan, { plane }, ranks, either)),
    ]);
    if (ring.status === "fulfilled" && links.status === "fulfilled") {
      const sides = {
        before: before === undefined ? undefined : links.value[0],
        after: after === undefined ? undefined : links.value.at(-1),
      };
      const column = new Column({ ...place, ...sides, nowMs });
      const { linkBytesMax = Number.POSITIVE_INFINITY } = {
        linkBytesMax: undefined,
        ...ringLimits[plan.transport],
      };
      return new StageRing({ replicas: ring.value, column, linkBytesMax });
    }
    if (ring.status === "fulfilled") ring.value.destroy();
    if (links.status === "fulfilled")
      for (const { upstream, downstream } of links.value) {
        upstream.destroy();
        downstream.destroy();
      }
    throw failed.signal.reason;
  }

  offer(plan: AdmissionPlan, state: Uint8Array): void {
    this.#states.offer(plan, state);
  }

  withdraw(): void {
    this.#states.withdraw();
  }

  fetchStart(stagePlan: GenerationPlan, signal: AbortSignal): Promise<Uint8Array> {
    const plan = this.#whole(stagePlan);
    const { checkpoint } = plan.stages![placeIn(plan, this.#options.peerId).stage]!;
    const isHeld = stagePlan.ranks.some(({ heals }) => !heals);
    return isHeld
      ? fetchStartState(stagePlan, this.#options, signal)
      : this.#options.stateOf(checkpoint, signal);
  }

  close(): Promise<void> {
    return this.#options.plane.close();
  }

  #whole({ generation }: GenerationPlan): GenerationPlan {
    const plan = this.#plans.find((each) => each.generation === generation);
    assert(plan, "a plan that was adopted");
    return plan;
  }
}
