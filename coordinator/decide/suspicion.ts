import { limits } from "../../protocol/limits.ts";

/**
 * How surely a silent peer is gone. Accrual failure detection: not a verdict after a fixed time, but a number phi that grows
 * with the silence; phi 8 means that one such silence in 10^8 comes from a peer that lives.
 *
 * Beats carry a number, so lost ones are counted and not guessed: on a link that loses a fifth of them a silence of four
 * beats is nothing, on one that has lost none it is a death. A fixed timeout has to be long enough for the worst link and
 * is then too long for all others.
 *
 * Sources: Hayashibara et al., "The phi accrual failure detector", SRDS 2004; the normal tail by the logistic approximation
 * that Akka's implementation of it uses.
 */
export class Rhythm {
  /** Of the newest beats: how many were lost before each, and how late it was. */
  readonly #window: { readonly lost: number; readonly lateMs: number }[] = [];
  #lostCount = 0;
  #lateSquares = 0;
  #last: { readonly sequence: number; readonly atMs: number } | undefined;

  /** A beat after a time in which we could not hear: what was lost meanwhile says nothing of the link. */
  resume(sequence: number, nowMs: number): void {
    this.#last = { sequence, atMs: nowMs };
  }

  /** A beat. One that came out of order says nothing new. */
  hear(sequence: number, nowMs: number): void {
    const last = this.#last;
    this.#last = { sequence, atMs: nowMs };
    if (!last || sequence <= last.sequence) return;
    const beats = sequence - last.sequence;
    // A peer that was cut off for long lost them all at once; one cut says little of how its link usually is.
    const lost = Math.min(beats - 1, burstMax);
    const lateMs = nowMs - last.atMs - beats * limits.heartbeatIntervalMs;
    this.#window.push({ lost, lateMs });
    this.#lostCount += lost;
    this.#lateSquares += lateMs * lateMs;
    if (this.#window.length <= windowBeats) return;
    const oldest = this.#window.shift()!;
    this.#lostCount -= oldest.lost;
    this.#lateSquares -= oldest.lateMs * oldest.lateMs;
  }

  /**
   * -log10 of the probability that a living peer is silent for so long: that each beat that was due since then is lost, or
   * still on its way. Cost: a term for each beat that is due.
   */
  phi(silentMs: number): number {
    if (silentMs <= limits.heartbeatIntervalMs) return 0; // nearly every peer, at every look
    const heard = this.#window.length;
    const lossShare = (this.#lostCount + prior.lost) / (heard + this.#lostCount + prior.beats);
    const deviationMs = Math.max(deviationMsMin, Math.sqrt(this.#lateSquares / Math.max(1, heard)));
    let phi = 0;
    for (let dueMs: number = limits.heartbeatIntervalMs; dueMs < silentMs && phi < phiMax; ) {
      const isLate = normalTail((silentMs - dueMs) / deviationMs);
      phi -= Math.log10(lossShare + (1 - lossShare) * isLate);
      dueMs += limits.heartbeatIntervalMs;
    }
    return phi;
  }
}

/** Long enough to see a loss of one in a hundred, short enough to follow a link that changes within two minutes. */
const windowBeats = 100;
const burstMax = 10;
/** What is believed of a peer that has not been heard yet: one beat in twenty is lost. */
const prior = { lost: 1, beats: 20 } as const;
/** A busy machine sends late: a second was seen on two cores under load. */
const deviationMsMin = 300;
const phiMax = 100;

/** P(X > y) of a standard normal X, for y >= 0, within 0.02%. Source: Bowling et al., 2009. */
function normalTail(y: number): number {
  const e = Math.exp(-y * (1.5976 + 0.070566 * y * y));
  return e / (1 + e);
}
