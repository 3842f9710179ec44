import { RingfoldError } from "../../protocol/errors.ts";
import { limits } from "../../protocol/limits.ts";
import type { GenerationPlan } from "../../protocol/messages/job.ts";
import type { Clock } from "../../protocol/ports.ts";
import { openDeadline } from "../deadline.ts";
import type { RingPort } from "../ring/port.ts";
import { type CheckpointAccess, readCheckpoint } from "./checkpoints/read-checkpoint.ts";
import { CatchUp } from "./healing/catch-up.ts";
import type { Entry } from "./healing/entry.ts";
import { sourcesOf } from "./healing/healing.ts";
import { admissionOf, type RingHost } from "./ring-host/ring-host.ts";
import type { Trainee } from "./trainee.ts";

export interface Healing {
  /** 0 where there was nothing to heal. */
  readonly bytes: number;
  readonly durationMs: number;
}

/** What a rank brings to a rendezvous. */
export interface Rendezvous {
  readonly peerId: string;
  readonly host: RingHost;
  /** Where a plan names one that all begin from. */
  readonly checkpoints: CheckpointAccess;
  readonly trainer: Pick<Trainee, "memory" | "point" | "encodeState" | "restoreState">;
  /** Gives this rank's state away: the host, or a thread of its own where the state is large. */
  readonly stateSource: Pick<RingHost, "offer" | "withdraw">;
  readonly clock: Clock;
  /** Monotonic milliseconds. */
  readonly nowMs: () => number;
  /** This rank has the state, from the start or after healing. */
  readonly onReady: (healing: Healing) => void;
}

/**
 * Turns a plan into a running ring: link with the neighbours, then a barrier, after which every rank knows that all are
 * linked. A rank that has to heal begins to copy the state, and enters the ring with the others meanwhile.
 *
 * @param signal of the generation
 * @throws RingfoldError PEER_UNREACHABLE | PEER_IDENTITY | NOT_A_MEMBER | REQUEST_TIMEOUT | RING_BROKEN | HOP_TIMEOUT |
 *   HASH_DIVERGED | STALE_GENERATION
 */
export async function joinGeneration(
  plan: GenerationPlan,
  self: Rendezvous,
  signal: AbortSignal,
): Promise<{ ring: RingPort; entry?: Entry }> {
  const { clock, peerId, host, trainer, stateSource, onReady } = self;
  const heals = plan.ranks.some((rank) => rank.peerId === peerId && rank.heals);
  if (!heals) assertAtStart(plan, trainer);
  if (plan.ranks.some((rank) => rank.heals) && sourcesOf(plan).some((rank) => rank.peerId === peerId))
    stateSource.offer(admissionOf(plan), await trainer.encodeState());
  const deadline = openDeadline(
    { timeoutMs: limits.rendezvousTimeoutMs, what: "rendezvous", parent: signal },
    clock,
  );
  try {
    const ring = await host.link(plan, trainer.memory, deadline.signal);
    try {
      await ring.barrier(deadline.signal);
      if (!heals) onReady({ bytes: 0, durationMs: 0 });
      else if (plan.healsFirst) await healNow(plan, self, signal);
      return { ring, ...entryOf(plan, self, signal) };
    } catch (cause) {
      ring.destroy(); // whoever has its links, in this thread or another, keeps them until it is told
      throw cause;
    }
  } finally {
    deadline.release();
  }
}

function assertAtStart({ start }: GenerationPlan, trainer: Rendezvous["trainer"]): void {
  const own = trainer.point();
  if (own.step === start.step && own.hash === start.hash) return;
  // The plan is from before our last report: the next one must start from what we have now.
  const code = own.step > start.step ? "STALE_GENERATION" : "HASH_DIVERGED";
  throw new RingfoldError(code, "this rank does not stand where the plan says that it does", {
    ...{ step: own.step, expectedStep: start.step },
  });
}

/** How this rank takes part while some heal; nothing when none does. */
function entryOf(plan: GenerationPlan, self: Rendezvous, signal: AbortSignal): { entry?: Entry } {
  const healingCount = plan.ranks.filter((rank) => rank.heals).length;
  if (healingCount === 0 || plan.healsFirst) return {};
  const { peerId, host, nowMs, stateSource, onReady } = self;
  const contributors = plan.ranks.filter((rank) => !rank.heals);
  const rank = contributors.findIndex((member) => member.peerId === peerId);
  const startedAtMs = nowMs();
  let bytes = 0;
  return {
    entry: {
      step: plan.start.step,
      healingCount,
      place: { rank, worldSize: contributors.length },
      ...(rank === -1 ? { catchUp: new CatchUp(host.fetchStart(plan, signal)) } : {}),
      restore: (state) => {
        bytes = state.byteLength;
        return restoreStart(plan, self, state);
      },
      onHealed: () => onReady({ bytes, durationMs: nowMs() - startedAtMs }),
      onAllHealed: () => stateSource.withdraw(),
    },
  };
}

/** Before the first step, for which the others wait. @throws RingfoldError as the copying, and HASH_DIVERGED */
async function healNow(plan: GenerationPlan, self: Rendezvous, signal: AbortSignal): Promise<void> {
  const startedAtMs = self.nowMs();
  const state =
    plan.checkpoint === undefined
      ? await self.host.fetchStart(plan, signal)
      : await readCheckpoint(plan.checkpoint, self.checkpoints, signal);
  await restoreStart(plan, self, state);
  self.onReady({ bytes: state.byteLength, durationMs: self.nowMs() - startedAtMs });
}

/** @throws RingfoldError HASH_DIVERGED | ARTEFACT_CORRUPT */
async function restoreStart(
  { start, source }: GenerationPlan,
  { trainer }: Rendezvous,
  state: Uint8Array,
): Promise<void> {
  await trainer.restoreState(state);
  const healed = trainer.point();
  if (healed.step === start.step && healed.hash === start.hash) return;
  throw new RingfoldError("HASH_DIVERGED", `${source} is not at the starting point of this generation`, {
    ...{ peer: source, step: healed.step, expectedStep: start.step },
  });
}
