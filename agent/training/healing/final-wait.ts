import { limits } from "../../../protocol/limits.ts";
import type { Clock } from "../../../protocol/ports.ts";
import { untilAborted } from "../../deadline.ts";
import type { RingPort } from "../../ring/port.ts";
import type { CatchUp } from "./catch-up.ts";

/** Of a rank that heals and has nothing to say but that it does. */
const beatMs = 500;

/**
 * Ranks still heal, and nobody can go on without them: the ring has made its last step, or they cannot keep what another one
 * would sum. All go round with one number, at the pace of those who heal, until that is 0: so the others see that they are
 * alive, however long it takes. Whether the copy itself gets on is for its own links to say, on which each frame has the time
 * of a hop.
 *
 * The other way, one bound on the whole copy, broke the ring again and again when the state was larger than that.
 *
 * @param catchUp of this rank, when it heals; `apply` takes what has arrived
 * @throws as `ring.allReduce`, and what the copying has thrown
 */
export async function waitForHealing(
  ring: RingPort,
  of: {
    readonly catchUp: CatchUp | undefined;
    readonly apply: (catchUp: CatchUp) => Promise<void>;
    readonly clock: Clock;
  },
  signal: AbortSignal,
): Promise<void> {
  const { catchUp, apply, clock } = of;
  const healing = new Float32Array(1);
  // To apply what was kept may take as long as those steps did.
  ring.hopTimeoutMs = limits.firstStepTimeoutMs;
  do {
    if (catchUp && !catchUp.isCurrent) {
      await arrivalOrBeat(catchUp, clock, signal);
      await apply(catchUp);
    }
    healing[0] = catchUp && !catchUp.isCurrent ? 1 : 0;
    await ring.allReduce(healing, signal);
  } while (healing[0] > 0);
}

async function arrivalOrBeat({ arrival }: CatchUp, clock: Clock, signal: AbortSignal): Promise<void> {
  const beat = Promise.withResolvers<void>();
  const cancelTimer = clock.after(beatMs, beat.resolve);
  try {
    await untilAborted(Promise.race([arrival, beat.promise]), signal);
  } finally {
    cancelTimer();
  }
}
