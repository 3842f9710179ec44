import { limits } from "../../protocol/limits.ts";

/** When a script that says nothing counts as hung, in milliseconds. */
export interface SilenceBounds {
  /** Without a message and without processor time, at least: a hang. */
  readonly standingMs: number;
  /** So many of the longest silence that it has come back from are borne, too. */
  readonly longestCount: number;
  /** Without a message, whatever it computes. */
  readonly silentMs: number;
}

export const silenceBounds: SilenceBounds = {
  ...{ standingMs: limits.scriptStandingMs, silentMs: limits.scriptSilentMs },
  longestCount: 32,
};
/** Processor time of less than this share is that of threads that look around while the program waits. */
const busyShare = 0.01;

/**
 * Tells a script that hangs from one that computes: a step may be long, and an evaluation between two steps longer, but a program that
 * uses no processor for many minutes waits for what does not come. One that computes for a day without a word is taken for an endless loop.
 */
export class ScriptSilence {
  readonly #bounds: SilenceBounds;
  #longestMs = 0;
  #startedAtMs = 0;
  #last: { readonly atMs: number; readonly processorMs: number | undefined } | undefined;
  #standingSinceMs = 0;

  constructor(bounds: SilenceBounds = silenceBounds) {
    this.#bounds = bounds;
  }

  /** Often enough that a bound is not passed by much. */
  get lookMs(): number {
    return Math.min(this.#bounds.standingMs, this.#bounds.silentMs) / 10;
  }

  /** It is waited for from now on. */
  begin(nowMs: number): void {
    this.#startedAtMs = nowMs;
    this.#standingSinceMs = nowMs;
    this.#last = undefined;
  }

  /** It has said something. */
  end(nowMs: number): void {
    this.#longestMs = Math.max(this.#longestMs, nowMs - this.#startedAtMs);
  }

  /**
   * @param processorMs that all its processes have used so far; undefined where that cannot be known
   * @returns what is wrong with it, for people
   */
  look(nowMs: number, processorMs: number | undefined): string | undefined {
    const before = this.#last;
    this.#last = { atMs: nowMs, processorMs };
    if (!isStanding(before, this.#last)) this.#standingSinceMs = nowMs;
    const standingMs = nowMs - this.#standingSinceMs;
    const { longestCount, standingMs: leastMs, silentMs } = this.#bounds;
    if (standingMs >= Math.max(leastMs, longestCount * this.#longestMs))
      return `has stood still for ${seconds(standingMs)} s, without a word and without processor time`;
    const silence = nowMs - this.#startedAtMs;
    if (silence >= silentMs) return `has said nothing for ${seconds(silence)} s, though it computes`;
    return undefined;
  }
}

type Look = { readonly atMs: number; readonly processorMs: number | undefined };

/** At the first look nothing is known yet; where processes have ended, the sum is smaller than before. */
function isStanding(before: Look | undefined, now: Look): boolean {
  if (before?.processorMs === undefined || now.processorMs === undefined) return before === undefined;
  return Math.abs(now.processorMs - before.processorMs) < busyShare * (now.atMs - before.atMs);
}

const seconds = (ms: number): string => String(Math.round(ms / 100) / 10);
