import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plus } from "pure-rand/generator/xoroshiro128plus";

/** Which signals a chaos run sends: SIGKILL, SIGSTOP, or one or the other each time. */
export const signalChoices = ["kill", "stop", "mixed"] as const;
export type SignalChoice = (typeof signalChoices)[number];

/** What happens to one agent. */
export type Fault = KillFault | StallFault;

export interface KillFault {
  readonly kind: "kill";
  /** `agent`: its children have to notice by themselves. `machine`: all of it at once, as when the power goes. */
  readonly reach: "agent" | "machine";
  /** From the death to the new start, ms. */
  readonly restartAfterMs: number;
}

/** All processes of the agent stop and keep their sockets open: to the others it is merely silent. */
export interface StallFault {
  readonly kind: "stall";
  /** How it ends: it wakes up among others that went on without it, or it dies and starts anew. */
  readonly end: "resume" | "kill";
}

/** Some restarts meet a ring that is still re-forming, some one that has gone on. */
const restartAfterMsMax = 3_000;

/** The chances of a chaos run: a function of the seed and of nothing else. */
export class FaultDice {
  readonly #generator: ReturnType<typeof xoroshiro128plus>;
  readonly #signal: SignalChoice;

  constructor({ seed, signal }: { readonly seed: number; readonly signal: SignalChoice }) {
    this.#generator = xoroshiro128plus(seed | 0);
    this.#signal = signal;
  }

  /** A whole number of [0, below). */
  integer(below: number): number {
    return uniformInt(this.#generator, 0, below - 1);
  }

  /**
   * The next fault and its victim, one of `candidates` (not empty). Draws equally often whatever comes out, so that a
   * run in which one victim differs draws the same kinds after it.
   */
  next(candidates: readonly string[]): { readonly victim: string; readonly fault: Fault } {
    const stalls = this.integer(2) === 1;
    const wholeMachine = this.integer(2) === 1;
    const restartAfterMs = this.integer(restartAfterMsMax + 1);
    const victim = candidates[this.integer(2 ** 20) % candidates.length]!;
    if (this.#signal === "stop" || (this.#signal === "mixed" && stalls)) {
      return { victim, fault: { kind: "stall", end: wholeMachine ? "kill" : "resume" } };
    }
    return { victim, fault: { kind: "kill", reach: wholeMachine ? "machine" : "agent", restartAfterMs } };
  }
}
