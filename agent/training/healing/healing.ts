import { RingfoldError, toRingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import type { GenerationPlan, Rank } from "../../../protocol/messages/job.ts";
import type { Clock } from "../../../protocol/ports.ts";
import type { DataPlane } from "../../network/data-plane/data-plane.ts";
import type { FrameSocket } from "../../network/data-plane/frame-socket.ts";
import { fetchState } from "./fetch-state.ts";
import type { DigestState } from "./state-source.ts";

/** Ranks that give the state of the plan's start to those that heal; the same list on every rank. */
export function sourcesOf({ ranks, source }: GenerationPlan): readonly Rank[] {
  const able = ranks.filter(({ heals }) => !heals);
  const first = able.findIndex(({ peerId }) => peerId === source);
  return [...able.slice(first), ...able.slice(0, first)].slice(0, limits.stateSourcesMax);
}

/**
 * Copies the state of the plan's start from all sources that can be reached.
 * @throws RingfoldError as `fetchState`, and PEER_UNREACHABLE | PEER_IDENTITY | REQUEST_TIMEOUT when there is none
 */
export async function fetchStartState(
  plan: GenerationPlan,
  {
    plane,
    ...copying
  }: { readonly plane: DataPlane; readonly digestState: DigestState; readonly clock: Clock },
  signal: AbortSignal,
): Promise<Uint8Array> {
  const purpose = { kind: "heal", jobId: plan.jobId, generation: plan.generation } as const;
  const dials = await Promise.allSettled(
    sourcesOf(plan).map((source) => plane.dial({ ...source, port: source.statePort }, purpose, signal)),
  );
  const sockets = dials.flatMap((dial): FrameSocket[] => (dial.status === "fulfilled" ? [dial.value] : []));
  try {
    if (sockets.length === 0) {
      const failure = dials.find((dial) => dial.status === "rejected");
      if (failure) throw toRingfoldError(failure.reason);
      throw new RingfoldError("HASH_DIVERGED", "the plan names no rank that has its state");
    }
    return await fetchState(sockets, copying, signal);
  } finally {
    for (const socket of sockets) socket.destroy();
  }
}
