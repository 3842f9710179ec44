import { RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import type { GenerationPlan } from "../../protocol/messages/job.ts";
import type { Clock } from "../../protocol/ports.ts";
import { openDeadline } from "../deadline.ts";
import type { ParameterSlot } from "../engine/port.ts";
import type { Purpose } from "../network/arrivals.ts";
import type { DataPlane } from "../network/data-plane.ts";
import { downstreamLink, ringLimits, upstreamLink } from "../network/ring-links.ts";
import { Ring } from "../ring/ring.ts";
import { receiveState, sendState } from "./heal.ts";
import type { Trainer } from "./trainer.ts";
import { encodeState, restoreState, trainingPoint } from "./training-state.ts";

export interface Healing {
  readonly bytes: number;
  readonly durationMs: number;
}

/**
 * Turns a plan into a running ring: heal if this rank is not at the plan's starting point, link with both neighbours,
 * then a barrier, after which every rank knows that all are healed and linked.
 *
 * @throws RingfoldError PEER_UNREACHABLE | PEER_IDENTITY | NOT_A_MEMBER | REQUEST_TIMEOUT | RING_BROKEN | HOP_TIMEOUT | HASH_DIVERGED
 */
export async function joinGeneration(
  plan: GenerationPlan,
  self: Rendezvous,
  cancel: AbortSignal,
): Promise<{ ring: Ring; healing: Healing }> {
  const deadline = openDeadline(
    { timeoutMs: limits.rendezvousTimeoutMs, what: "rendezvous", parent: cancel },
    self.clock,
  );
  const { jobId, generation, ranks } = plan;
  self.plane.admit({ jobId, generation, peerIds: ranks.map(({ peerId }) => peerId) });
  try {
    const healing = await heal(plan, self, deadline.signal);
    const ring = await link(plan, self, deadline.signal);
    await ring.barrier(deadline.signal); // destroys the ring when it throws
    return { ring, healing };
  } finally {
    deadline.release();
  }
}

/** What a rank brings to a rendezvous. */
export interface Rendezvous {
  readonly peerId: string;
  readonly plane: DataPlane;
  readonly trainer: Trainer;
  readonly layout: readonly ParameterSlot[];
  readonly clock: Clock;
  /** Monotonic milliseconds. */
  readonly nowMs: () => number;
}

/** Answers ranks that heal from this one; the state cannot change while any of them still waits. */
export function serveHealing({ plane, trainer, layout, clock }: Omit<Rendezvous, "peerId" | "nowMs">): void {
  const never = new AbortController().signal; // the socket closes with the plane
  plane.serve("heal", async (socket) => {
    const deadline = openDeadline(
      { timeoutMs: limits.rendezvousTimeoutMs, what: "healing", parent: never },
      clock,
    );
    try {
      await sendState(socket, encodeState(trainer.state, layout), deadline.signal);
    } finally {
      deadline.release();
    }
  });
}

async function heal(
  plan: GenerationPlan,
  { peerId, plane, trainer, layout, nowMs }: Rendezvous,
  signal: AbortSignal,
): Promise<Healing> {
  const startedAtMs = nowMs();
  const own = trainingPoint(trainer.state);
  if (own.step === plan.start.step && own.hash === plan.start.hash) return { bytes: 0, durationMs: 0 };
  if (own.step > plan.start.step) {
    // The plan is from before our last report. Our steps are finished: the next plan must start from them.
    throw new RingfoldError("STALE_GENERATION", `this rank is ahead of the plan`, {
      step: own.step,
      expectedStep: plan.start.step,
    });
  }
  const source = plan.ranks.find((rank) => rank.peerId === plan.source);
  if (!source || source.peerId === peerId) {
    throw new RingfoldError("HASH_DIVERGED", `this rank is the source of a state that it does not have`, {
      step: own.step,
      expectedStep: plan.start.step,
    });
  }
  const socket = await plane.dial(source, purpose(plan, "heal"), signal);
  try {
    const bytes = await receiveState(socket, signal);
    restoreState(trainer.state, bytes, layout);
    trainer.adoptState();
    const healed = trainingPoint(trainer.state);
    if (healed.step !== plan.start.step || healed.hash !== plan.start.hash) {
      throw new RingfoldError(
        "HASH_DIVERGED",
        `${source.peerId} is not at the starting point of this generation`,
        {
          peer: source.peerId,
          step: healed.step,
          expectedStep: plan.start.step,
        },
      );
    }
    return { bytes: bytes.byteLength, durationMs: nowMs() - startedAtMs };
  } finally {
    socket.destroy();
  }
}

async function link(
  plan: GenerationPlan,
  { peerId, plane, trainer: { memory } }: Rendezvous,
  signal: AbortSignal,
): Promise<Ring> {
  const worldSize = plan.ranks.length;
  const rank = plan.ranks.findIndex((member) => member.peerId === peerId);
  if (worldSize === 1) return new Ring({ rank, worldSize });
  const upstream = plan.ranks[(rank + worldSize - 1) % worldSize]!;
  const downstream = plan.ranks[(rank + 1) % worldSize]!;
  // When one neighbour cannot be linked, the other one is not waited for.
  const failed = new AbortController();
  const either = AbortSignal.any([signal, failed.signal]);
  const orFail = <T>(work: Promise<T>): Promise<T> => {
    work.catch((cause) => failed.abort(cause));
    return work;
  };
  const [dialled, accepted] = await Promise.allSettled([
    orFail(plane.dial(upstream, purpose(plan, "ring"), either, { receiveRegion: memory.receiveRegion })),
    orFail(plane.accept(downstream.peerId, purpose(plan, "ring"), either)),
  ]);
  if (dialled.status === "fulfilled" && accepted.status === "fulfilled") {
    const links = { upstream: upstreamLink(dialled.value), downstream: downstreamLink(accepted.value) };
    return new Ring({ rank, worldSize, links, memory, ...ringLimits[plan.transport] });
  }
  if (dialled.status === "fulfilled") dialled.value.destroy();
  if (accepted.status === "fulfilled") accepted.value.destroy();
  throw failed.signal.reason;
}

const purpose = (plan: GenerationPlan, kind: Purpose["kind"]): Purpose => ({
  kind,
  jobId: plan.jobId,
  generation: plan.generation,
});
