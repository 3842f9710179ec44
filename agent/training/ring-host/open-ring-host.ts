import type { RingfoldError } from "../../../protocol/errors.ts";
import { limits } from "../../../protocol/limits.ts";
import { type Log, systemClock } from "../../../protocol/ports.ts";
import { openDataPlane } from "../../network/data-plane/data-plane.ts";
import { digestState } from "../healing/digest-state.ts";
import { LocalRingHost } from "./local-ring-host.ts";
import type { RingHost } from "./ring-host.ts";
import { openRingThread } from "./ring-thread.ts";
import type { RingThreadSetup } from "./ring-thread-messages.ts";

/** @throws RingfoldError as `openDataPlane` */
export async function openLocalRingHost({ plane }: RingThreadSetup, log: Log): Promise<RingHost> {
  const nowMs = () => performance.now();
  return new LocalRingHost({
    ...{ peerId: plane.peerId, plane: await openDataPlane({ ...plane, log }), digestState },
    ...{ clock: systemClock, nowMs },
  });
}

/**
 * A thread of its own where the ring has something to do while the engine computes. For small gradients that is nothing, and the
 * thread costs: 0.3-0.5 s at each start, two messages an operation, and on few cores the turns that it takes from the engine.
 * @throws RingfoldError as `openDataPlane`, and when the thread cannot start
 */
export function openRingHost(
  setup: RingThreadSetup,
  of: {
    readonly parameterCount: number;
    readonly log: Log;
    /** Of the thread, by itself. */
    readonly onDeath: (error: RingfoldError) => void;
  },
): Promise<RingHost> {
  return 4 * of.parameterCount < limits.overlapBytesMin
    ? openLocalRingHost(setup, of.log)
    : openRingThread(setup, of);
}
