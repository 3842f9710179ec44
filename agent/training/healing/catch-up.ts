import { limits } from "../../../protocol/limits.ts";
import type { Evaluation } from "../../../protocol/messages/job-report.ts";

/** What the ring has summed in one round, kept until this rank can apply it. */
export interface KeptRound {
  readonly firstStep: number;
  readonly stepCount: number;
  /** f32 [parameterCount]. */
  readonly sums: Float32Array;
  readonly lossWeight: number;
  readonly contributorCount: number;
  /** All ranks left it out, as its numbers were not finite. */
  readonly isSkipped: boolean;
  /** Of the state before it, where the held-out set was evaluated. */
  readonly evaluation?: Evaluation | undefined;
}

/** How much a rank that heals keeps; the same on all ranks, as at its end all of them wait for it. */
export interface CatchUpRule {
  readonly bytesMax: number;
  readonly roundsMin: number;
}
export const catchUpRule: CatchUpRule = {
  bytesMax: limits.catchUpBytesMax,
  roundsMin: limits.catchUpRoundsMin,
};

/** Whether one more round may be kept beside so many. Every rank knows both numbers, and so the answer. */
export const hasRoom = (
  { bytesMax, roundsMin }: CatchUpRule,
  kept: { readonly rounds: number; readonly roundBytes: number },
): boolean => kept.rounds < roundsMin || (kept.rounds + 1) * kept.roundBytes <= bytesMax;

/**
 * A rank that heals goes round with the others from the first step: it contributes zeros, and keeps the sums, which are
 * everybody's. When the state of the start has arrived it applies them one after the other and stands where all stand, to
 * the bit. So nobody waits for it, however large the state is, until it keeps as much as its memory should hold
 * (`hasRoom`): then all do.
 *
 * Other ways: copying the state between two steps makes every rank wait for the copy. A rank that gave up when it could keep
 * no more broke the ring, which was formed anew with it, again and again.
 */
export class CatchUp {
  readonly #rounds: KeptRound[] = [];
  #arrived: { readonly state: Uint8Array } | { readonly error: unknown } | undefined;
  /** Settles when the state has arrived, or will not. */
  readonly arrival: Promise<void>;
  /** Nothing is left to apply: from now on this rank steps with the others. */
  isCurrent = false;

  /** @param state of the start of the generation */
  constructor(state: Promise<Uint8Array>) {
    this.arrival = state.then(
      (bytes) => {
        this.#arrived = { state: bytes };
      },
      (error: unknown) => {
        this.#arrived = { error };
      },
    );
  }

  keep(round: KeptRound): void {
    this.#rounds.push(round);
  }

  /** The state and what happened since, once; undefined while it is on its way. @throws what the copying has thrown */
  take(): { readonly state: Uint8Array; readonly rounds: readonly KeptRound[] } | undefined {
    if (!this.#arrived || this.isCurrent) return undefined;
    if ("error" in this.#arrived) throw this.#arrived.error;
    return { state: this.#arrived.state, rounds: this.#rounds };
  }

  /** Everything that was taken has been applied. */
  done(): void {
    this.isCurrent = true;
    this.#rounds.length = 0;
    this.#arrived = undefined;
  }
}
